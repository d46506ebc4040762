"""`softprompt` with a failure built in: `python -m tests.faults.failing NAME COMMAND ARGUMENT...`.

What fails begins with SIGUSR1, where it is not there from the start, and a stall ends with SIGUSR2.
"""

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from server.engine.runner import Runner

DEVICE = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


def failing(name: str) -> list[str]:
    """What a `Process` is to be started under."""
    return [sys.executable, "-m", "tests.faults.failing", name]


def _told_early() -> None:
    """SIGTERM as soon as the base is to be read."""
    from server import app  # noqa: PLC0415 - it takes a while, and one failure wants it

    load = app.load_base

    def told(settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return load(settings)

    app.load_base = told


def _device() -> None:
    """The device is lost: every pass raises."""
    run, lost = Runner.run, threading.Event()

    def raising(self: Runner, *arguments: Any) -> Any:
        if lost.is_set():
            raise RuntimeError(DEVICE)
        return run(self, *arguments)

    Runner.run = raising  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGUSR1, lambda *_: lost.set())


def _stall() -> None:
    """A pass that does not end."""
    run, goes_on = Runner.run, threading.Event()
    goes_on.set()

    def waiting(self: Runner, *arguments: Any) -> Any:
        goes_on.wait()
        return run(self, *arguments)

    Runner.run = waiting  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGUSR1, lambda *_: goes_on.clear())
    signal.signal(signal.SIGUSR2, lambda *_: goes_on.set())


FAILURES: Mapping[str, Callable[[], None]] = {"told early": _told_early, "device": _device, "stall": _stall}


if __name__ == "__main__":
    FAILURES[sys.argv[1]]()
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
