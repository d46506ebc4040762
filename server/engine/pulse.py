"""Whether the engine's thread comes round, and that it has come to its end. Read from any thread; knows no requests."""

import time
from concurrent.futures import Future


class Pulse:
    """Of one engine."""

    def __init__(self) -> None:
        self.ended: Future[None] = Future()
        """Done when the thread has come to its end."""
        self.ended.set_running_or_notify_cancel()  # whoever waits for it may leave, and it stays what it is
        self._round: float | None = None

    @property
    def silent_seconds(self) -> float:
        """How long ago it last came round, where it has something to do; else 0."""
        began = self._round
        return 0.0 if began is None else time.monotonic() - began

    def asked(self) -> None:
        """There is something to do: a thread that is never woken is silent too."""
        self._round = self._round or time.monotonic()

    def beats(self) -> None:
        """It comes round."""
        self._round = time.monotonic()

    def rests(self) -> None:
        """There is nothing to do."""
        self._round = None

    def ends(self) -> None:
        """The thread's last word."""
        self.rests()
        self.ended.set_result(None)
