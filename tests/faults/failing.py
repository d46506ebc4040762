"""Failures that a process is given before it begins.

What fails begins with SIGUSR1, where it is not there from the start, and a stall ends with SIGUSR2.
"""

import os
import signal
import threading
from typing import Any

from server.engine.runner import Runner

DEVICE = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


def told_early() -> None:
    """SIGTERM as soon as the base is to be read."""
    from server import app  # noqa: PLC0415 - it takes a while, and few failures want it

    _told_before(app, "load_base")


def told_between() -> None:
    """SIGTERM between the imports and the handlers of the server."""
    from server import serve  # noqa: PLC0415 - as above

    _told_before(serve, "bound")


def _told_before(module: Any, name: str) -> None:
    goes_on = getattr(module, name)

    def told(settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return goes_on(settings)

    setattr(module, name, told)


def device() -> None:
    """The device is lost: every pass raises."""
    run, lost = Runner.run, threading.Event()

    def raising(self: Runner, *arguments: Any) -> Any:
        if lost.is_set():
            raise RuntimeError(DEVICE)
        return run(self, *arguments)

    Runner.run = raising  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGUSR1, lambda *_: lost.set())


def stall() -> None:
    """A pass that does not end."""
    run, goes_on = Runner.run, threading.Event()
    goes_on.set()

    def waiting(self: Runner, *arguments: Any) -> Any:
        goes_on.wait()
        return run(self, *arguments)

    Runner.run = waiting  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGUSR1, lambda *_: goes_on.clear())
    signal.signal(signal.SIGUSR2, lambda *_: goes_on.set())
