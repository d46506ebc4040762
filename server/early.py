"""A process that is still being imported: that it ends when it is told to, and takes no longer than it must.

Imports nothing that takes a while.
"""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_when_told() -> Iterator[None]:
    """Exit code 0 at SIGTERM, SIGINT and SIGHUP until the server hears them itself; one that is ignored stays so.

    Afterwards all is as it was: whoever imports the command in a process of his own keeps his signals.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, lambda *_: os._exit(0))
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


@contextmanager
def uncollected() -> Iterator[None]:
    """Python's collector does nothing, and never looks at what is there by the end: what is imported stays, and to look
    at all of it time and again is a quarter of the seconds that it takes (docs/log.md)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
