"""What a subscription has from before: an end where everything else goes on."""

import asyncio
from collections.abc import AsyncGenerator

from .message import Message
from .subscription import Subscription


async def up_to_head(subscription: Subscription) -> AsyncGenerator[Message, None]:
    """The messages of a subscription up to its topic's head; it is closed then. Waits while the broker is away.

    Raises:
        HubbubError: what ended the subscription instead.
    """
    head = asyncio.create_task(subscription.caught_up(), name="hubbub-history")
    try:
        async with subscription:
            while True:
                while subscription.buffered:
                    yield await anext(subscription)
                if head.done():
                    head.result()
                    return
                taken = asyncio.ensure_future(anext(subscription))
                try:
                    await asyncio.wait((head, taken), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not taken.done():  # what it would have taken stays
                        taken.cancel()
                        await asyncio.wait((taken,))
                if not taken.cancelled():
                    try:
                        message = taken.result()
                    except StopAsyncIteration:
                        head.result()
                        return
                    yield message
    finally:
        head.cancel()
        await asyncio.wait((head,))
