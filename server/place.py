"""The place in the queue that a request was let in with, from the edge, which keeps it, to the queue, which needs none.

Knows contexts; neither HTTP nor the queue.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from server.engine.admission import Place

PLACE = "softprompt.place"
"""In the scope of a request that has one."""
_KEPT: ContextVar[Place | None] = ContextVar("place", default=None)


@contextmanager
def kept(place: Place | None) -> Iterator[None]:
    """For the request that is answered inside, and every task that is begun there; at its end nobody has it."""
    token = _KEPT.set(place)
    try:
        yield
    finally:
        _KEPT.reset(token)
        if place is not None:
            place.leave()


def leave_place() -> None:
    """The request enters the queue, in this turn of the loop."""
    place = _KEPT.get()
    if place is not None:
        place.leave()
