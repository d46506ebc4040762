"""The end of a process that is told to end while it is still being imported. Imports nothing that takes a while."""

import os
import signal


def end_when_told() -> None:
    """Exit code 0 at SIGTERM, SIGINT and SIGHUP, which nothing has been done for yet; one that is ignored stays so.

    `server.leaving` takes its place as soon as there is something to end.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(0))
