"""The sending half of a connection, over a real transport; and how long it waits, by a clock of our own."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from server.api.outgoing import LEAST_RATE, Outgoing
from server.api.unsent import Unsent


async def test_a_client_that_is_gone_is_sent_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    """The first piece fails; asyncio warns of the fifth that is written all the same."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    outgoing = Outgoing(transport, loop, 1.0, lambda: False, Unsent(2**20))
    theirs.close()
    for _ in range(20):
        outgoing.write(bytes(2**16))
    assert outgoing.is_closing()
    assert not caplog.records
    outgoing.lost()


SECONDS = 75.0


class Timer:
    def cancel(self) -> None: ...


class Clock:
    """What is wanted of a loop: its time, set by hand, and one timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due = 0.0
        self._then: Callable[[], object] | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        self.due, self._then = self.now + delay, callback
        return Timer()

    def goes_to(self, now: float) -> None:
        self.now = now
        if self._then is not None and now >= self.due:
            then, self._then = self._then, None
            then()


class Wire(asyncio.Transport):
    """Holds what it is given until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.is_cut = False

    def write(self, data: Any) -> None:
        self.held += len(data)

    def get_write_buffer_size(self) -> int:
        return self.held

    def is_closing(self) -> bool:
        return self.is_cut

    def abort(self) -> None:
        self.is_cut = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sending(wire: Wire, clock: Clock) -> Outgoing:
    return Outgoing(wire, cast("asyncio.AbstractEventLoop", clock), SECONDS, lambda: False, Unsent(2**30))


def test_time_in_which_nothing_waited_counts_for_nobody(sending: Outgoing, wire: Wire, clock: Clock) -> None:
    """A connection that was kept, and has been taking its next answer for a moment, is not judged by all of it."""
    sending.write(bytes(2**20))
    sending.full()
    wire.held = 0
    sending.empty()
    clock.goes_to(SECONDS - 2)
    sending.write(bytes(2**20))
    sending.full()
    wire.held -= 3 * LEAST_RATE
    clock.goes_to(SECONDS)
    assert not wire.is_cut
    clock.goes_to(2 * SECONDS)
    assert wire.is_cut


def test_time_in_which_something_waited_adds_up(sending: Outgoing, wire: Wire, clock: Clock) -> None:
    """Who takes just enough for a little more to be sent is too slow all the same."""
    for second in range(int(SECONDS)):
        clock.goes_to(second)
        sending.empty()
        clock.goes_to(second + 0.1)
        sending.write(bytes(LEAST_RATE))
        sending.full()
        wire.held -= LEAST_RATE // 2
    assert not wire.is_cut
    clock.goes_to(SECONDS + 0.1)
    assert wire.is_cut
