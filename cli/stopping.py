"""A signal, or a reader that is gone, ends a run between two passes, so that it is saved. Knows not what runs."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self

from tuning.base import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STANDARD_OUTPUT = 1


class Stopping:
    """While it is entered the first SIGINT or SIGTERM is kept in `number`; the next has its usual effect.

    What is ignored stays ignored.

    Call it where the run may end: it raises Interrupted once there was a signal.
    """

    def __init__(self) -> None:
        self.number = 0
        self._done = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        heeded = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        self._before = {one: signal.signal(one, self._heard) for one in heeded}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def done(self) -> None:
        """There is nothing left to stop: what is heard from here on is too late."""
        self._done = True

    def unheard(self) -> None:
        """Nobody reads standard output any more, as with `| head`: the run ends as by a SIGPIPE."""
        self.number = self.number or signal.SIGPIPE
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STANDARD_OUTPUT)  # what is left in buffers has a place to go
        os.close(nowhere)

    def __call__(self) -> None:
        if self.number and not self._done:
            raise Interrupted

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
