"""Bodies into models, off the loop where they are large."""

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from starlette.requests import Request

from server.api.bodies import HELD, Bodies
from server.api.body import INLINE_BYTES, LARGE_BYTES, decoded
from server.errors import Invalid

TOGETHER_SECONDS = 0.3


def _json(size: int) -> bytes:
    """A text of so many bytes."""
    return b'"' + b"a" * (size - 2) + b'"'


class Readers:
    """`into` of three bodies of `size` bytes at once; whether two of them were ever at it together."""

    def __init__(self, size: int) -> None:
        self._body = _json(size)
        self._meeting = threading.Barrier(2)
        self.met = False
        self.threads: set[int] = set()

    async def read(self) -> None:
        request = Request({"type": "http", HELD: Bodies(1).hold()})
        await asyncio.gather(*(decoded(request, self._body, self._into) for _ in range(3)))

    def _into(self, value: Any) -> Any:
        self.threads.add(threading.get_ident())
        with suppress(threading.BrokenBarrierError):
            self._meeting.wait(TOGETHER_SECONDS)
            self.met = True
        return value


def test_large_bodies_are_read_one_after_the_other_and_others_are_not() -> None:
    """Each keeps the lock of all threads for a while: the loop waits for one of them, not for as many as came."""
    large, middling = Readers(LARGE_BYTES + 1), Readers(LARGE_BYTES)
    asyncio.run(large.read())
    asyncio.run(middling.read())
    assert (large.met, middling.met) == (False, True)
    assert threading.get_ident() not in large.threads | middling.threads


def test_a_small_body_is_read_where_it_came() -> None:
    """A thread would cost more."""
    here = set[int]()
    request = Request({"type": "http", HELD: Bodies(1).hold()})
    asyncio.run(decoded(request, _json(INLINE_BYTES), lambda _: here.add(threading.get_ident())))
    assert here == {threading.get_ident()}


@pytest.mark.parametrize("size", [INLINE_BYTES, LARGE_BYTES, 2 * LARGE_BYTES])
def test_what_is_wrong_with_a_body_is_said_whatever_its_size(size: int) -> None:
    """Half a text is no JSON, on the loop, in a thread and in its turn."""
    request = Request({"type": "http", HELD: Bodies(1).hold()})
    with pytest.raises(Invalid):
        asyncio.run(decoded(request, _json(size)[:-1], str))
