"""A signal while something runs, and one at its very end."""

import os
import signal

import pytest

from cli.stopping import SIGNALS, Stopping
from tuning.base import Interrupted


@pytest.mark.parametrize("number", SIGNALS)
def test_what_runs_ends_where_it_is_asked(number: signal.Signals) -> None:
    """The first signal is kept; handlers are as they were from then on, so that a second one has its usual effect."""
    before = [signal.getsignal(one) for one in SIGNALS]
    stopping = Stopping()
    with stopping:
        stopping()
        os.kill(os.getpid(), number)
        assert [signal.getsignal(one) for one in SIGNALS] == before
        assert stopping.number == number
        with pytest.raises(Interrupted):
            stopping()


def test_what_is_done_is_not_stopped_any_more() -> None:
    """A signal behind the last pass: what is left to write is written."""
    stopping = Stopping()
    with stopping:
        stopping.done()
        os.kill(os.getpid(), signal.SIGTERM)
        stopping()


def test_what_is_ignored_stays_ignored() -> None:
    """As for a script's background job."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            os.kill(os.getpid(), signal.SIGINT)
            stopping()
    finally:
        signal.signal(signal.SIGINT, before)
