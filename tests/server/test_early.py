"""A process that is being imported: its signals, of which more is in tests/faults/test_end.py, and the collector."""

import gc
import signal

from server.early import ending_when_told, uncollected


def test_afterwards_signals_are_as_they_were() -> None:
    """For a program that imports the command and has handlers of its own; what is ignored is not touched."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    own = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        before = [signal.getsignal(number) for number in numbers]
        with ending_when_told():
            within = [signal.getsignal(number) for number in numbers]
        assert [signal.getsignal(number) for number in numbers] == before
        assert [mine is other for mine, other in zip(within, before, strict=True)] == [False, False, True]
    finally:
        signal.signal(signal.SIGHUP, own)


def test_nothing_is_collected_while_a_process_is_imported() -> None:
    """Afterwards the collector is as it was, off too."""
    seen = []
    with uncollected():
        seen.append(gc.isenabled())
        with uncollected():
            pass
        seen.append(gc.isenabled())
    assert seen == [False, False]
    assert gc.isenabled()
