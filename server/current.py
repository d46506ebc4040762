"""Which version of a task is the newest: remembered for a moment, asked of the store, never an older one than before.

Knows the store and no engine. A store that is down, or slow, leaves what is known served.
"""

import asyncio
import time
from collections import OrderedDict

from prompt_store.errors import StoreUnavailable, TaskDeleted, TaskNotFound, VersionNotVisible
from prompt_store.task import Task
from server.metrics import Meter
from server.place import leave_place
from server.reach import Reach
from server.telemetry import logger

MAX_REMEMBERED = 10_000
VISIBLE_SECONDS = 1.0
"""How long a request waits for a version that another server has published."""
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 2.0
"""How long a request for a task that is known waits to hear that nothing has changed."""

Answer = tuple[float, Task | None]
"""When the store was asked, and the newest version, a tombstone too; None where there is no such task."""


class Current:
    """The newest versions of tasks, as this server knows them."""

    def __init__(self, reach: Reach, meter: Meter) -> None:
        self._reach = reach
        self._meter = meter
        self._known: OrderedDict[str, tuple[Task, float]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Answer]] = {}
        self._alarmed: set[str] = set()

    def is_newest(self, task: Task) -> bool:
        known = self._known.get(task.name)
        return known is not None and known[0].version == task.version

    def written(self, task: Task) -> None:
        """This server made it: no older one counts from here on, and the store is asked next."""
        self._remember(task, at=0.0)

    async def arrived(self, name: str, min_version: int) -> Task:
        """The newest version, a tombstone too, once it is at least `min_version`. Raises VersionNotVisible."""
        deadline = time.monotonic() + VISIBLE_SECONDS
        while True:
            try:
                newest = await self.newest(name, 0.0)
            except TaskNotFound:
                newest = None
            if newest is not None and newest.version >= min_version:
                return newest
            if time.monotonic() >= deadline:
                raise VersionNotVisible("it did not arrive in time")
            leave_place()  # others come before it
            await asyncio.sleep(POLL_SECONDS)

    async def newest(self, name: str, max_age: float) -> Task:
        """The newest version, a tombstone too, from memory when it was seen at most `max_age` seconds ago.

        Raises TaskNotFound, Corrupt, and StoreUnavailable for a task that is not known.
        """
        wanted = time.monotonic() - max_age
        known = self._known.get(name)
        if known is None:
            return await self._told(name, wanted)
        if known[1] > wanted:
            return known[0]
        if self._reach.doubtful:
            _ = self._ask(name)
            return known[0]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._told(name, wanted)
        except TimeoutError:
            self._reach.doubt()
        except StoreUnavailable:
            pass
        return known[0]

    async def _told(self, name: str, wanted: float) -> Task:
        """What the store says to a question asked at `wanted` or later."""
        while True:
            asked, newest = await asyncio.shield(self._ask(name))
            if asked >= wanted:
                break
        known = self._known.get(name)
        if known is not None:
            return known[0]
        if newest is None:
            raise TaskNotFound("there is no such task")
        return newest

    def _ask(self, name: str) -> asyncio.Task[Answer]:
        """One question about a task at a time, however many wait for the answer.

        One that is answered is no question any more, also before the loop has come to say so: who waited for it would
        get the same answer again and again, and the loop would come to nothing else.
        """
        asking = self._asking.get(name)
        if asking is None or asking.done():
            asking = self._asking[name] = asyncio.create_task(self._look(name))
            asking.add_done_callback(lambda done: self._answered(name, done))
        return asking

    def _answered(self, name: str, done: asyncio.Task[Answer]) -> None:
        if self._asking.get(name) is done:
            del self._asking[name]
        if not done.cancelled():
            done.exception()  # it is seen here even when everyone who waited has gone

    async def _look(self, name: str) -> Answer:
        asked = time.monotonic()
        known = self._known.get(name)
        newest: Task | None = None
        try:
            newest = await self._reach.ask(self._reach.store.current, name)
        except TaskDeleted as deleted:
            newest = deleted.tombstone
        except TaskNotFound:
            pass
        if known is not None and (newest is None or newest.version < known[0].version):
            self._alarm(known[0], newest)
        if newest is not None:
            self._remember(newest, at=asked)
        return asked, newest

    def _alarm(self, known: Task, shown: Task | None) -> None:
        """A store never shows less than it has shown. One that does was put back, and is not believed."""
        self._meter.went_back()
        if known.name not in self._alarmed:
            self._alarmed.add(known.name)
            stored = 0 if shown is None else shown.version
            logger().error("the store has gone back", task=known.name, known=known.version, stored=stored)

    def _remember(self, task: Task, *, at: float) -> None:
        """The newest version known; an older one that arrives late changes nothing."""
        known = self._known.get(task.name)
        if known is not None and known[0].version > task.version:
            return
        self._known[task.name] = (task, at)
        self._known.move_to_end(task.name)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
