"""A bound on the time of a call."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from .calls import is_async, name_of
from .errors import CallTimeout

P = ParamSpec("P")
R = TypeVar("R")


class Timeout:
    """Cancels what takes longer than `seconds`, and raises CallTimeout in its place.

        patient = Timeout(20)

        @patient
        async def complete(prompt): ...

        await patient.call(client.get, url)

    Only for what can be cancelled: coroutines. A plain function in a thread goes on whatever its caller does, so it has
    to be given a time-out by its own library; then a breaker and a retry can do the rest.
    """

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a time-out of {seconds} s would let nothing through")
        self.seconds = seconds

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Bound a coroutine function: `@Timeout(20)`.

        Raises:
            TypeError: for a plain function.
        """
        if not is_async(function):
            raise TypeError(f"{name_of(function)} can't be cancelled: give it the time-out of the library that it uses")

        @functools.wraps(function)
        async def bounded(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await self.call(cast("Callable[P, Awaitable[Any]]", function), *args, **kwargs)

        return cast("Callable[P, R]", bounded)

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a coroutine function and wait so long at most.

        Raises:
            CallTimeout: if it did not end in time. A TimeoutError of the function's own is left as it is.
        """
        deadline = asyncio.timeout(self.seconds)
        try:
            async with deadline:
                return await function(*args, **kwargs)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise CallTimeout(f"{name_of(function)} did not end within {self.seconds:g} s") from error
