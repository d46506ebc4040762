"""The versions of every task: publish, patch, roll back, delete, list, load. The promises of design/30 are kept here.

A version is a manifest, `tasks/<task>!/<version>.json`, and a prompt file, `blobs/<digest>.safetensors`; both are only
ever created. Blobs go first, so a manifest never names a missing one; once it stands, its blob is looked for again, as
a collection (prompt_store/garbage.py) may have put it in the trash before it could see the manifest. Synchronous; any
number of threads and processes.
Knows no HTTP and no model.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from prompt_store.blobs import Blobs
from prompt_store.errors import (
    Corrupt,
    OperationConflict,
    PreconditionFailed,
    PromptError,
    TaskDeleted,
    TaskNotFound,
    VersionDeleted,
    VersionNotFound,
)
from prompt_store.local import LocalObjects
from prompt_store.metadata import Kind
from prompt_store.objects import MemoryObjects, Missing, Objects
from prompt_store.prompt import PromptFile, build, digest_of, parse
from prompt_store.task import Task, is_task_id
from prompt_store.versions import Change, Versions

log = logging.getLogger(__name__)

TIMEOUT = 10.0
BUCKETS = frozenset({"s3", "gs", "az"})
OP_ID = re.compile(r"[\x21-\x7e]{1,255}")


class Store:
    """Versions of tasks in a place for objects. Every method may raise StoreUnavailable.

    An operation has an id; `given` says that somebody chose it, who may be asking again. Then nothing is changed while
    a version cannot be read that may be this operation's: Corrupt.
    """

    def __init__(self, objects: Objects) -> None:
        """Nothing is read: start-up does not grow with the store."""
        self._objects = objects
        self._versions = Versions(objects)
        self._blobs = Blobs(objects)

    @property
    def objects(self) -> Objects:
        """The place, for those who look after it."""
        return self._objects

    @classmethod
    def open(cls, location: str, timeout: float = TIMEOUT, *, make: bool = True) -> "Store":
        """`memory://`, the URL of a bucket, or a directory, which is made if it is absent.

        A bucket is not asked for anything yet (`check` does that); `timeout` is for one of its requests, in seconds.
        ValueError for a location that is none of these.
        """
        if location == "memory://":
            return cls(MemoryObjects())
        scheme, separator, _ = location.partition("://")
        if not separator:
            return cls(LocalObjects(Path(location).absolute()))
        if scheme not in BUCKETS:
            raise ValueError("a store is a directory, memory://, s3://…, gs://… or az://…")
        from prompt_store.bucket import BucketObjects  # noqa: PLC0415 - obstore is loaded for buckets only

        return cls(BucketObjects(location, timeout, make=make))

    def check(self) -> None:
        """Ask whether the place is there and can keep a store. Raises StoreUnavailable, StoreUnsuitable."""
        self._objects.check()

    def publish(  # noqa: PLR0913 - the two preconditions of HTTP and the id of the operation
        self,
        name: str,
        file: PromptFile,
        *,
        verified: bool,
        op_id: str,
        given: bool = False,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> tuple[Task, bool]:
        """Keep `file` as the newest version. (task, False) when it is the current one already.

        `if_match` is the digest that must be current; `if_none_match` demands that there is none. Raises
        PreconditionFailed, OperationConflict, StoreFull, OutcomeUnknown.
        """
        _check_names(name, op_id)
        fields = {"bytes": len(file.data), "metadata": file.metadata, "verified": verified}
        change = Change("publish", file.digest, fields, over_damage=if_match is None and not if_none_match)

        def decide(newest: Task | None) -> Change | Task:
            current = newest if newest is not None and newest.digest is not None else None
            _check_match(current, if_match)
            if if_none_match and current is not None:
                raise PreconditionFailed(current)
            self._blobs.keep(file.digest, file.data)
            return current if current is not None and current.digest == file.digest else change

        made = self._versions.append(name, op_id, change, decide, given=given)
        self._blobs.stay(file.digest, file.data, op_id)
        return made

    def patch(
        self, name: str, patch: Any, *, op_id: str, given: bool = False, if_match: str | None = None
    ) -> tuple[Task, bool]:
        """Publish the current tensors with merged metadata (RFC 7396). Raises PromptError for what cannot be merged."""
        while True:
            changed, source = self.merged(name, patch, op_id=op_id, given=given, if_match=if_match)
            try:
                return self.publish(
                    name, changed, verified=source.verified, op_id=op_id, given=given, if_match=source.digest
                )
            except PreconditionFailed:
                # Someone published between our reading and our writing: merge into theirs, unless told not to.
                if if_match is not None:
                    raise

    def merged(
        self, name: str, patch: Any, *, op_id: str, given: bool = False, if_match: str | None = None
    ) -> tuple[PromptFile, Task]:
        """What `patch` would publish, and the version that it changes: of an operation done before, the one it changed.

        Raises as `patch` does.
        """
        _check_names(name, op_id)
        done = self._versions.done(name, op_id, given=given)
        if done is None:
            source = self.current(name)
            _check_match(source, if_match)
        else:
            source = self._changed_by(done)
        file = self.load(source)
        return build(file.prompt, file.metadata.patched(patch)), source

    def _changed_by(self, done: Task) -> Task:
        """The version that a patch started from. Raises OperationConflict for an operation that was no patch."""
        before = None if done.event != "publish" or done.previous is None else self.get(done.name, done.previous)
        if before is None or before.digest is None:
            raise OperationConflict("the operation id was used for another change")
        return before

    def rollback(
        self, name: str, version: int, op_id: str, if_match: str | None = None, *, given: bool = False
    ) -> tuple[Task, bool]:
        """A new version with the content of `version`; (task, False) when that is the current content.

        Raises VersionDeleted when `version` is a tombstone, Corrupt when its file is not what it was, and
        PreconditionFailed.
        """
        _check_names(name, op_id)
        source = self.get(name, version)
        data = self.blob(source)
        fields = {"bytes": source.bytes, "metadata": source.metadata, "verified": source.verified}
        change = Change("rollback", source.digest, {**fields, "source_version": version}, over_damage=True)

        def decide(newest: Task | None) -> Change | Task:
            _check_match(newest, if_match)
            return newest if newest is not None and newest.digest == source.digest else change

        made = self._versions.append(name, op_id, change, decide, given=given)
        self._blobs.stay(digest_of(data), data, op_id)
        return made

    def delete(self, name: str, op_id: str, if_match: str | None = None, *, given: bool = False) -> Task:
        """Put a tombstone on top. Nothing is removed. Raises TaskNotFound, TaskDeleted, PreconditionFailed."""
        _check_names(name, op_id)
        change = Change("delete", None, {})

        def decide(newest: Task | None) -> Change:
            if newest is None:
                raise TaskNotFound("there is no such task")
            if newest.digest is None:
                raise TaskDeleted(newest)
            _check_match(newest, if_match)
            return change

        return self._versions.append(name, op_id, change, decide, given=given)[0]

    def current(self, name: str) -> Task:
        """The newest version. Raises TaskNotFound, TaskDeleted, Corrupt: never an older version instead."""
        _check_names(name)
        newest = self._versions.newest(name)
        if newest is None:
            raise TaskNotFound("there is no such task")
        if newest.digest is None:
            raise TaskDeleted(newest)
        return newest

    def get(self, name: str, version: int) -> Task:
        """One version, tombstones too. Raises TaskNotFound, VersionNotFound, Corrupt."""
        _check_names(name)
        try:
            return self._versions.read(name, version)
        except Missing:
            if not self._versions.numbers(name):
                raise TaskNotFound("there is no such task") from None
            raise VersionNotFound("the task has no such version") from None

    def versions(self, name: str) -> list[Task]:
        """Every version, newest first; one whose manifest is corrupt is left out and logged. Raises TaskNotFound."""
        _check_names(name)
        numbers = self._versions.numbers(name)
        if not numbers:
            raise TaskNotFound("there is no such task")
        return list(self._versions.readable(name, reversed(numbers)))

    def list(
        self,
        *,
        limit: int = 100,
        after: str | None = None,
        order: Literal["asc", "desc"] = "asc",
        kind: Kind | None = None,
        search: str = "",
    ) -> tuple[list[Task], bool]:
        """One page of tasks by the ASCII order of their ids, and whether more follow. `search` is a prefix.

        Costs one directory scan of the names (remembered while no task is added), a bisection, and for each row one
        scan of its versions and one manifest; rows that are deleted or of another kind are read and left out.
        """
        page: list[Task] = []
        for name, task in self._versions.newest_of(self._versions.names(after, order, search)):
            if isinstance(task, Corrupt):
                log.warning("task %s is left out of a listing: %s", name, task)
                continue
            if task is None or task.metadata is None or kind not in {None, task.metadata.kind}:
                continue
            if len(page) == limit:
                return page, True
            page.append(task)
        return page, False

    def damaged(self) -> Iterator[tuple[str, str]]:
        """Ids of tasks that `list` leaves out because the newest manifest cannot be read, and what is wrong with it."""
        for name, task in self._versions.newest_of(self._versions.names(None, "asc", "")):
            if isinstance(task, Corrupt):
                yield name, str(task)

    def load(self, task: Task) -> PromptFile:
        """The prompt file of a version, size and digest verified. Raises Corrupt."""
        try:
            return parse(self.blob(task))
        except PromptError:
            raise Corrupt("the stored file is of a form that this server cannot read") from None

    def blob(self, task: Task) -> bytes:
        """The stored bytes of a version, verified. Raises Corrupt, VersionDeleted for a tombstone."""
        if task.digest is None:
            raise VersionDeleted(f"version {task.version} is a tombstone")
        return self._blobs.read(task.digest, task.bytes)


def _check_match(current: Task | None, if_match: str | None) -> None:
    if if_match is not None and (current is None or current.digest != if_match):
        raise PreconditionFailed(current)


def _check_names(name: str, op_id: str = "-") -> None:
    """The last line of defence: these two become part of a path and of a manifest."""
    if not is_task_id(name):
        raise TaskNotFound("no task can have this name")
    if not OP_ID.fullmatch(op_id):
        raise ValueError("an operation id has 1 to 255 visible ASCII characters")
