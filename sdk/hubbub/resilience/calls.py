"""What kind of callable is this, and on what kind of thread are we?"""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling `function` gives something to await. Also for objects whose `__call__` is a coroutine function.

    Raises:
        TypeError: for a generator function, whose work is done after the call: put `with` around its loop instead.
    """
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{name_of(function)} is a generator: guard the loop that reads it, with a `with` block")
    call = getattr(type(function), "__call__", None)  # noqa: B004 - the question is which kind of call it has
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def name_of(function: Callable[..., Any]) -> str:
    """What to call it in a message."""
    return getattr(function, "__qualname__", None) or repr(function)


def in_event_loop() -> bool:
    """Whether this thread runs an event loop just now, so that waiting here would stop all its tasks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
