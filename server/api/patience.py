"""How long a client waits for a change of the store. Knows neither store nor routes.

A thread that waits for a disk cannot be called back: the change goes on, and the answer says under which operation id
to ask for its outcome.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from prompt_store.errors import OutcomeUnknown

T = TypeVar("T")

_going_on: set["asyncio.Task[Any]"] = set()


async def in_time(change: Coroutine[Any, Any, T], op_id: str, seconds: float, left: "asyncio.Future[None]") -> T:
    """What `change` returns or raises. Raises OutcomeUnknown after so many seconds, or when `left` is done."""
    going = asyncio.create_task(change)
    _going_on.add(going)
    going.add_done_callback(_ended)
    either: set[asyncio.Future[Any]] = {going, left}
    await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if not going.done():
        raise OutcomeUnknown(op_id)
    return going.result()


def going_on() -> bool:
    """Whether a change is under way, even if nobody waits for it any more."""
    return bool(_going_on)


def _ended(going: "asyncio.Task[Any]") -> None:
    _going_on.discard(going)
    if not going.cancelled():
        going.exception()  # it is seen here even when whoever asked has gone
