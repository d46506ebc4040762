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
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from prompt_store.errors import StoreUnavailable
from prompt_store.store import Store
from server.telemetry import logger

P = ParamSpec("P")
T = TypeVar("T")

READS = 32
CHANGES = 8
"""At once, each in threads of their own: a disk that is slow to flush keeps nobody waiting who only reads."""
MAX_WAITING = 64
PAUSE = (0.1, 5.0)
"""Seconds between two looks at a store that is down: the first, and the most they grow to; drawn from half upwards."""


class Reach:
    """What is known of the way to `store`: it is there, it is in doubt, or it is down."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reached = False
        """Whether it was ever there."""
        self.doubtful = False
        """Something failed or takes long, and why is being found out: what is known need not wait for an answer."""
        self._down_since: float | None = None
        self._reads = CapacityLimiter(READS)
        self._changes = CapacityLimiter(CHANGES)
        self._own_thread = CapacityLimiter(1)
        self._watch: asyncio.Task[None] | None = None

    @property
    def down_seconds(self) -> float:
        """For how long it has been down; 0 where it is not."""
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

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
        try:
            return await run_sync(call, limiter=threads)
        except StoreUnavailable:
            self.doubt()
            raise

    def doubt(self) -> None:
        """Find out whether it is there, and wait for it if it is not: a write that is refused takes nothing down."""
        self.doubtful = True
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._until_there())

    async def look(self) -> None:
        """Is it there? Raises StoreUnavailable, and goes on looking; StoreUnsuitable for what waiting does not mend."""
        try:
            await self._look()
        except StoreUnavailable:
            self.doubt()
            raise

    async def there(self) -> None:
        """Once it is there."""
        while not self.reached and self._watch is not None:
            await asyncio.wait([self._watch])

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    async def _until_there(self) -> None:
        pause, most = PAUSE
        while True:
            with suppress(StoreUnavailable):
                return await self._look()
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(most, 2 * pause)

    async def _look(self) -> None:
        try:
            await run_sync(self.store.check, limiter=self._own_thread)
        except StoreUnavailable as error:
            if self._down_since is None:
                self._down_since = time.monotonic()
                logger().error("the store cannot be reached", reason=str(error), cause=_cause(error))
            raise
        if self._down_since is not None:
            logger().info("the store is there", down_seconds=round(self.down_seconds, 1))
        self.reached, self.doubtful, self._down_since = True, False, None


def _cause(error: StoreUnavailable) -> str | None:
    """What the library below said, for the operator's log: its first line names the address."""
    return None if error.__cause__ is None else str(error.__cause__).partition("\n")[0][:300]
