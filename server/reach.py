"""Whether the store can be reached: who waits for it, who is told at once that it cannot, and when it is asked again.

Every question to the store goes through here, in threads of its own: a store that hangs may use those up and no others.
Knows no tasks and no HTTP.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from prompt_store.errors import StoreRefuses, StoreUnavailable
from prompt_store.store import Store
from server.telemetry import logger

P = ParamSpec("P")
T = TypeVar("T")

READS = 32
CHANGES = 8
"""At once, each in threads of their own: a disk that is slow to flush keeps nobody waiting who only reads."""
MAX_WAITING = 64
HEARTBEAT_SECONDS = 10.0
"""Between two looks at a store that is there."""
PAUSE = (0.1, 5.0)
"""Seconds between two looks at a store that is down: the first, and the most they grow to; drawn from half upwards."""


class Reach:
    """What is known of the way to `store`: it is there, it is in doubt, or it is down. Belongs to the running loop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reached = False
        """Whether it was ever there."""
        self.doubtful = False
        """Something failed or takes long, and why is being found out: what is known need not wait for an answer."""
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the server ends and nobody may wait any longer."""
        self._down_since: float | None = None
        self._reason = ""
        self._doubted = asyncio.Event()
        self._there = asyncio.Event()
        self._reads = CapacityLimiter(READS)
        self._changes = CapacityLimiter(CHANGES)
        self._own_thread = CapacityLimiter(1)
        self._going: set[asyncio.Task[Any]] = set()
        self._watch: asyncio.Task[None] | None = None

    @property
    def down_seconds(self) -> float:
        """For how long it has been down; 0 where it is not."""
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

    @property
    def changing(self) -> bool:
        """Whether something is being changed, or waits to be, even where nobody waits for it any more."""
        return self._changes.borrowed_tokens > 0

    async def ask(self, function: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """What a method of the store gives. Raises StoreUnavailable, without asking as long as the store is down."""
        return await self._run(partial(function, *arguments, **options), self._reads)

    async def change(self, function: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """The same for a method that changes the store. Raises StoreUnavailable also where too many wait already."""
        if self._changes.statistics().tasks_waiting >= MAX_WAITING:
            raise StoreUnavailable("the store does not keep up with changes")
        return await self._run(partial(function, *arguments, **options), self._changes)

    async def _run(self, call: Callable[[], T], threads: CapacityLimiter) -> T:
        if self._down_since is not None:
            raise StoreUnavailable("the store is down")
        going = asyncio.create_task(run_sync(call, limiter=threads))
        self._going.add(going)
        going.add_done_callback(self._ended)
        either: set[asyncio.Future[Any]] = {going, self.left}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not going.done():
            raise StoreUnavailable("the server is shutting down")
        return going.result()

    def _ended(self, going: "asyncio.Task[Any]") -> None:
        self._going.discard(going)
        error = None if going.cancelled() else going.exception()  # seen even when whoever asked has gone
        if isinstance(error, StoreRefuses):
            logger().info("the store refuses to be changed", reason=str(error), cause=_cause(error))
        elif isinstance(error, StoreUnavailable):
            self.doubt()

    def doubt(self) -> None:
        """Find out whether it is there, and wait for it if it is not."""
        self.doubtful = True
        self._doubted.set()

    async def look(self) -> None:
        """Is it there? Raises StoreUnavailable, and StoreUnsuitable for what waiting does not mend. Goes on looking."""
        try:
            await self._look()
        finally:
            self._watch = asyncio.create_task(self._watching())

    async def there(self) -> None:
        """Once it is there."""
        await self._there.wait()

    def leave(self, seconds: float) -> None:
        """The server ends: who still waits for the store then is told so. A change that has begun goes on."""
        asyncio.get_running_loop().call_later(seconds, self._leave)

    def _leave(self) -> None:
        if not self.left.done():
            self.left.set_result(None)

    async def close(self) -> None:
        for task in (self._watch, *self._going):
            if task is not None:
                task.cancel()
        if self._watch is not None:
            await asyncio.wait({self._watch})

    async def _watching(self) -> None:
        """A look now and then, as nobody might ask for hours; at once where somebody doubts, and until it is there."""
        pause, most = PAUSE
        while True:
            if self._down_since is None and not self.doubtful:
                pause = PAUSE[0]
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._doubted.wait(), HEARTBEAT_SECONDS)
            self._doubted.clear()
            with suppress(StoreUnavailable):
                await self._look()
                continue
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(most, 2 * pause)

    async def _look(self) -> None:
        try:
            await run_sync(self.store.check, limiter=self._own_thread)
        except StoreUnavailable as error:
            if str(error) != self._reason:
                self._reason = str(error)
                logger().error("the store cannot be reached", reason=str(error), cause=_cause(error))
            if self._down_since is None:
                self._down_since = time.monotonic()
            raise
        if self._down_since is not None:
            logger().info("the store is there", down_seconds=round(self.down_seconds, 1))
        self.reached, self.doubtful, self._down_since, self._reason = True, False, None, ""
        self._there.set()


def _cause(error: StoreUnavailable) -> str | None:
    """What the library below said, for the operator's log: its first line names the address."""
    return None if error.__cause__ is None else str(error.__cause__).partition("\n")[0][:300]
