"""Signals while a process is being imported; what they do to one is in tests/faults/test_end.py."""

import signal

from server.early import ending_when_told


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
