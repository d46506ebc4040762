"""When a version is refused because it gives no numbers, for how long, and what frees it."""

from contextlib import ExitStack

import pytest

from server.errors import Unavailable
from server.quarantine import FAILURES, MAX_KNOWN, Quarantine

SECONDS = 60.0


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A quarantine, its clock, and how often it said that it refuses one from now on."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.clock, self.told = Clock(), 0
        self.of = Quarantine(seconds, self._tell, self.clock)

    def _tell(self) -> None:
        self.told += 1

    def ask(self, digest: str | None, *, ran: bool = False, failed: bool = False, canary: bool = False) -> None:
        with self.of.trial(digest, anyway=canary) as trial:
            trial.ran, trial.failed = ran, failed

    def fail(self, digest: str = "bad", times: int = FAILURES) -> None:
        for _ in range(times):
            self.ask(digest, failed=True)

    def wait(self, digest: str = "bad") -> int | None:
        """Seconds that are asked to be waited; None for one that is not refused."""
        try:
            self.of.check(digest)
        except Unavailable as fault:
            return int(fault.headers["Retry-After"]) if fault.code == "quarantined" else -1
        return None


def test_three_failures_in_a_row_are_refused_for_a_while() -> None:
    """Two are not, nor three with an answer between; others are not; the refusal says how long it lasts."""
    one = Watched()
    one.fail(times=FAILURES - 1)
    one.ask("bad", ran=True)
    one.fail(times=FAILURES - 1)
    assert one.wait() is None
    one.fail(times=1)
    assert one.wait() == 60
    assert one.told == 1
    assert one.wait("other") is None
    one.clock.now += 58.5
    assert one.wait() == 2
    with pytest.raises(Unavailable):
        one.ask("bad", ran=True)


def test_after_that_one_tries_it_and_decides() -> None:
    """Meanwhile others are refused; failing again closes it for as long again, an answer frees it."""
    one = Watched()
    one.fail()
    one.clock.now += SECONDS
    assert one.wait() is None
    with one.of.trial("bad") as trial:
        assert one.wait() == 1
        with pytest.raises(Unavailable):
            one.ask("bad", ran=True)
        trial.failed = True
    assert one.wait() == 60
    assert one.told == 2
    one.clock.now += SECONDS
    one.ask("bad", ran=True)
    assert one.wait() is None
    one.fail(times=FAILURES - 1)
    assert one.wait() is None


def test_a_trial_that_says_nothing_is_nobodys() -> None:
    """Cancelled, timed out or refused for another reason: the next one tries."""
    one = Watched()
    one.fail()
    one.clock.now += SECONDS
    one.ask("bad")
    assert one.wait() is None
    with pytest.raises(KeyError), one.of.trial("bad"):
        raise KeyError
    assert one.wait() is None


def test_those_under_way_when_it_is_closed_close_it_once() -> None:
    """A hundred at the same time are one log line and one count, and do not let anybody in."""
    one = Watched()
    with ExitStack() as together:
        for _ in range(100):
            together.enter_context(one.of.trial("bad")).failed = True
    assert one.told == 1
    assert one.wait() == 60


def test_a_canary_is_run_all_the_same() -> None:
    """Who publishes the same bytes again finds out at once whether they work now."""
    one = Watched()
    one.fail()
    one.ask("bad", failed=True, canary=True)
    assert one.wait() == 60
    one.ask("bad", ran=True, canary=True)
    assert one.wait() is None


def test_the_bare_model_and_zero_seconds_refuse_nobody() -> None:
    """Where there is no other version to go to, or nobody wants it."""
    one, off = Watched(), Watched(0)
    for _ in range(10):
        one.ask(None, failed=True)
    off.fail()
    one.of.check(None)
    assert off.wait() is None


def test_what_is_remembered_is_bounded() -> None:
    """The first that failed is forgotten first."""
    one = Watched()
    one.fail("first")
    for number in range(MAX_KNOWN):
        one.fail(str(number), times=1)
    assert len(one.of._records) == MAX_KNOWN
    assert one.wait("first") is None
