"""The manifests of every task: which versions there are, and how the next one is won. Knows no blobs and no files.

A manifest is only ever created, so of two writers that want the same number one finds it taken and looks again.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from prompt_store import manifest
from prompt_store.errors import Corrupt, OperationConflict, OutcomeUnknown, StoreUnavailable
from prompt_store.keys import TASKS, manifest_key, version_of
from prompt_store.many import at_once
from prompt_store.objects import Exists, Missing, Objects, Unconfirmed
from prompt_store.task import MAX_VERSION, Event, Task, is_task_id

log = logging.getLogger(__name__)

UNLISTED = 1000
"""Versions that a listing may fall short by, at most: a place that has them all has none."""
MAX_SEEN = 100_000
RECENT = 100
"""Versions back to which an operation id is looked for: what bounds the cost of a change."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the next version is to hold. `over_damage`: it may follow a version whose manifest cannot be read."""

    event: Event
    digest: str | None
    fields: dict[str, Any]
    over_damage: bool = False


Decide = Callable[[Task | None], Change | Task]
"""Sees the newest version (None: none, or none that can be read); returns a version to leave things as they are."""


class Versions:
    """Manifests in a place for objects."""

    def __init__(self, objects: Objects) -> None:
        """Nothing is read."""
        self._objects = objects
        self._seen: dict[str, int] = {}

    def numbers(self, name: str) -> list[int]:
        """Version numbers, ascending. Names of another form are not ours to judge.

        The newest is asked for its successor, one by one: a listing may be older than what was acknowledged.
        """
        folder, seen = f"{TASKS}{name}!/", self._seen.get(name, 0)
        found = (version_of(key.removeprefix(folder)) for key in self._objects.keys(folder))
        numbers = [version for version in found if version is not None]
        if seen > (numbers[-1] if numbers else 0) and self._objects.has(manifest_key(name, seen)):
            numbers.append(seen)
        for _ in range(UNLISTED):
            following = numbers[-1] + 1 if numbers else 1
            if not self._objects.has(manifest_key(name, following)):
                self._remember(name, numbers[-1] if numbers else 0)
                return numbers
            numbers.append(following)
        raise StoreUnavailable("the place says that everything is there")

    def _remember(self, name: str, newest: int) -> None:
        """The highest number that this process has seen of a task: what a listing must not fall short of."""
        if newest > self._seen.get(name, 0):
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen[name] = newest

    def _numbers_to_go_on_from(self, name: str) -> list[int]:
        """A number is never given twice, and what is acknowledged is served: not on top of less than there was."""
        seen = self._seen.get(name, 0)  # before the look: what others add meanwhile is no reason to stop
        numbers = self.numbers(name)
        if seen > (numbers[-1] if numbers else 0):
            raise StoreUnavailable("the store shows less than before: start anew if a backup was put in its place")
        return numbers

    def read(self, name: str, version: int) -> Task:
        """One version. Raises Missing or Corrupt: the latter only when it was read twice."""
        key = manifest_key(name, version)
        try:
            return manifest.read(self._objects.get(key), name, version)
        except Corrupt:  # on its way, perhaps
            return manifest.read(self._objects.get(key), name, version)

    def newest(self, name: str) -> Task | None:
        """The version of the highest number: never an older one in its place. Raises Corrupt."""
        for _ in range(2):  # a listing may have been damaged on its way, too
            numbers = self.numbers(name)
            with suppress(Missing):
                return self.read(name, numbers[-1]) if numbers else None
        raise Corrupt("a manifest vanished")

    def newest_of(self, names: Iterable[str]) -> Iterator[tuple[str, Task | Corrupt | None]]:
        """The newest version of each, or what is wrong with it, in order; several at once where that is faster."""

        def found(name: str) -> tuple[str, Task | Corrupt | None]:
            try:
                return name, self.newest(name)
            except Corrupt as error:
                return name, error

        return at_once(self._objects.parallel, found, names)

    def readable(self, name: str, numbers: Iterable[int]) -> Iterator[Task]:
        """Those versions that can be read; the others are logged."""

        def found(number: int) -> Task | None:
            try:
                return self.read(name, number)
            except (Corrupt, Missing) as error:
                log.warning("version %d of task %s is left out: %s", number, name, error)
                return None

        return (task for task in at_once(self._objects.parallel, found, numbers) if task is not None)

    def done(self, name: str, op_id: str, *, given: bool = False) -> Task | None:
        """The version that an operation made already, when its answer was lost. Raises Corrupt, see Store.

        Where nobody gave the id, nobody asks again, and damage of old versions is no reason to change nothing.
        """
        return self._done_among(self.numbers(name), name, op_id, given=given)

    def _done_among(self, numbers: Sequence[int], name: str, op_id: str, *, given: bool) -> Task | None:
        recent = numbers[-RECENT:]
        left = len(recent)
        for task in self.readable(name, reversed(recent)):
            if task.op_id == op_id:
                return task
            left -= 1
        if left and given:
            raise Corrupt("a version that this operation may have made cannot be read")
        return None

    def confirmed(self, task: Task, op_id: str) -> Task:
        """`task`, kept for good: whoever wrote a version that can be seen may have died before its last fsync."""
        try:
            self._objects.confirm(manifest_key(task.name, task.version))
        except StoreUnavailable:
            raise OutcomeUnknown(op_id) from None
        return task

    def append(
        self, name: str, op_id: str, change: Change, decide: Decide, *, given: bool = False
    ) -> tuple[Task, bool]:
        """Win the next number; (task, False) when `decide`, asked on every attempt, leaves things as they are."""
        while True:
            numbers = self._numbers_to_go_on_from(name)
            done = self._done_among(numbers, name, op_id, given=given)
            if done is not None:
                if (done.event, done.digest) != (change.event, change.digest):
                    raise OperationConflict("the operation id was used for another change")
                return self.confirmed(done, op_id), True
            decision = decide(self._newest_for(name, numbers, change))
            if isinstance(decision, Task):
                return self.confirmed(decision, op_id), False
            task = _next(name, op_id, numbers[-1] if numbers else None, decision)
            try:
                self._objects.create(manifest_key(name, task.version), manifest.write(task))
            except Exists:
                continue
            except Unconfirmed:
                raise OutcomeUnknown(op_id) from None
            self._remember(name, task.version)
            return task, True

    def names(self, after: str | None, order: Literal["asc", "desc"], search: str) -> Iterator[str]:
        """Task names from where a page begins; `!` sorts before every character of an id, so folders sort as ids."""
        above, below = search, search + "\x7f" if search else ""
        if after is not None and order == "asc":
            above = max(above, after + "!")
        elif after is not None:
            below = min(below, after + "!") if below else after + "!"
        folders = self._objects.folders(TASKS, above, below, descending=order == "desc")
        names = (folder.removesuffix("!") for folder in folders if folder.endswith("!"))
        return (name for name in names if is_task_id(name))

    def _newest_for(self, name: str, numbers: Sequence[int], change: Change) -> Task | None:
        try:
            return self.read(name, numbers[-1]) if numbers else None
        except Missing:  # listed, and gone: that is no answer to build upon
            raise StoreUnavailable("a manifest vanished") from None
        except Corrupt:
            if change.over_damage:
                return None
            raise


def _next(name: str, op_id: str, previous: int | None, change: Change) -> Task:
    version = 1 if previous is None else previous + 1
    if version > MAX_VERSION:
        raise StoreUnavailable("the task has no version number left")
    blank = Task(name, version, change.event, change.digest, 0, None, False, int(time.time()), op_id, previous, None)
    return replace(blank, **change.fields)
