"""The end of a server process: who asks for it, what it waits for, and that it comes in time whatever anybody does.

Knows signals, seconds and what is still running; uvicorn's connections are told by `server.serve`.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from server.api.patience import going_on
from server.app import Started
from server.lifecycle import Lifecycle
from server.telemetry import logger

ENGINE_FAILED = 70
"""Exit code where the engine has died: EX_SOFTWARE of sysexits.h. Whoever supervises the process starts another."""
LATEST_SECONDS = 2.0
"""After the drain's: then the process is gone."""
TELL_SECONDS = 0.8
"""After the drain's, for what the engine and the store let go of to be told so."""
CUT_SECONDS = 0.2
"""After that, for what had to be cut off to be told so."""
FLUSH_SECONDS = 1.25
"""After the drain's, for clients to take what was written to them."""
WATCH_SECONDS = 1.6
"""After the drain's: a process that still is there goes without whatever holds it up."""
TICK_SECONDS = 0.02


class Leaving:
    """Of one process, in the running loop. `code` is its exit code; `seconds` may pass until what runs has finished."""

    def __init__(self, seconds: float, exit_now: Callable[[int], object] = os._exit) -> None:
        self.lifecycle = Lifecycle()
        self.code = 0
        self.serving = False
        """Before that nothing is there that could be finished."""
        self.asked = asyncio.Event()
        self._seconds = seconds
        self._exit_now = exit_now
        self._ends = 0.0

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM, SIGINT and SIGHUP ask for the end; SIGHUP not where it is ignored, as under nohup."""
        loop = asyncio.get_running_loop()
        handled = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handled.append(signal.SIGHUP)
        for number in handled:
            loop.add_signal_handler(number, self.leave)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
                if self.lifecycle.draining:  # the end is near: another signal must not make it another one
                    signal.signal(number, signal.SIG_IGN)

    def leave(self) -> None:
        """Asked for. A second time, or where nothing is served yet, the process is gone at once."""
        if self.serving and not self.lifecycle.draining:
            logger().info("draining")
            self._begin()
            return
        logger().info("stopped at once")
        self._go()

    def failed(self) -> None:
        """The engine has died: nothing can be asked any more but why."""
        if not self.lifecycle.draining:
            logger().error("the engine has died: the process ends", exit_code=ENGINE_FAILED)
            self.code = ENGINE_FAILED
            self._begin()

    def _begin(self) -> None:
        self.lifecycle.draining = True
        self._ends = time.monotonic() + self._seconds
        watch = threading.Timer(self._seconds + WATCH_SECONDS, self._go)
        watch.daemon = True
        watch.start()
        self.asked.set()

    def _go(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        self._exit_now(self.code)

    async def drained(self, up: Started) -> None:
        """Once nothing runs, or its time is up and it has been told so."""
        running, reach = up.desk.room.running, up.desk.room.tasks.reach
        up.jobs.leave()

        def nothing() -> bool:
            return not (self.lifecycle.running or going_on() or reach.changing or running.busy)

        if not await self.until(nothing, 0):
            logger().warning(
                "the drain's time is up", requests=len(self.lifecycle.running), changes=going_on() or reach.changing
            )
        running.engine.drain(0)
        running.leave()
        reach.leave(0)
        if not await self.until(lambda: not self.lifecycle.running, TELL_SECONDS):
            self.lifecycle.cut()
            await self.until(lambda: not self.lifecycle.running, TELL_SECONDS + CUT_SECONDS)

    async def until(self, condition: Callable[[], bool], after: float) -> bool:
        """Whether it came true before so many seconds after the drain's."""
        while not condition():
            if time.monotonic() >= self._ends + after:
                return False
            await asyncio.sleep(TICK_SECONDS)
        return True
