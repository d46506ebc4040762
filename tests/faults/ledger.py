"""What writers of a store meant to do and what they were told, kept outside of it; and whether the store bears it out.

Every version has to be one that somebody meant, every acknowledged one has to be there, and nothing that was there
after one fault may be gone after the next. Knows no fault and no writer.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prompt_store.errors import Corrupt, StoreError, TaskDeleted, TaskNotFound
from prompt_store.local import TEMPORARY
from prompt_store.store import Store
from prompt_store.task import Task

TASKS = tuple(f"t{number}" for number in range(6))
Found = Mapping[tuple[str, int], Task]


class Ledger:
    """Of the store in `root`, whose tasks are TASKS."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._meant: dict[str, dict[str, Any]] = {}
        self._told: list[dict[str, Any]] = []
        self._broken: list[str] = []
        self._seen: dict[tuple[str, int], str] = {}

    def means(self, op: str, task: str, event: str, digest: str) -> None:
        """Before it is tried. `digest`: of the file, for a publish."""
        self._meant[op] = {"task": task, "event": event, "digest": digest}

    def told(self, op: str, task: str, event: str, digest: str | None, version: int | None) -> None:
        """An acknowledgement: of `version`, or where the answer names none of the one that `op` made."""
        self._told.append({"op": op, "task": task, "event": event, "digest": digest, "version": version})

    def broken(self, what: str) -> None:
        """Something that no fault excuses."""
        self._broken.append(what)

    def lost(self) -> str | None:
        """The first promise that does not hold; what was found is demanded the next time."""
        try:
            store = Store.open(str(self._root))
            found = {(task.name, task.version): task for name in TASKS for task in _versions(store, name)}
            problem = next(self._problems(store, found), None)
        except StoreError as error:
            return f"{type(error).__name__}: {error}"
        self._told = []
        self._seen = {key: task.op_id for key, task in found.items()}
        return problem

    def _problems(self, store: Store, found: Found) -> Iterator[str]:
        yield from self._broken
        if any((self._root / TEMPORARY).iterdir()):
            yield "temporary files outlived a start"
        for key, op_id in self._seen.items():
            if key not in found or found[key].op_id != op_id:
                yield f"{key} was there after the last fault, and is not"
        by_operation = {task.op_id: task for task in found.values()}
        if len(by_operation) != len(found):
            yield "one operation made two versions"
        for said in self._told:
            version = said["version"]
            task = by_operation.get(said["op"]) if version is None else found.get((said["task"], version))
            if task is None or (task.digest, task.event) != (said["digest"], said["event"]):
                yield f"acknowledged, and not there: {said}"
        for task in {task.digest: task for task in found.values() if task.digest is not None}.values():
            store.load(task)
        for task in found.values():
            yield from self._unmeant(task, found)

    def _unmeant(self, task: Task, found: Found) -> Iterator[str]:
        where = f"{task.name} {task.version}"
        meant = self._meant.get(task.op_id)
        if meant is None or (meant["task"], meant["event"]) != (task.name, task.event):
            yield f"{where} is of nobody"
        elif task.event == "publish" and task.digest != meant["digest"]:
            yield f"{where} is not what was published"
        elif task.event == "rollback" and task.digest != found[task.name, task.source_version or 0].digest:
            yield f"{where} is not what was rolled back to"
        if task.version > 1 and (task.name, task.version - 1) not in found:
            yield f"{where} has no version before it"


def _versions(store: Store, name: str) -> Sequence[Task]:
    """Raises Corrupt when the newest cannot be read."""
    try:
        versions = store.versions(name)
        newest = store.current(name)
    except TaskDeleted as deleted:
        newest = deleted.tombstone
    except TaskNotFound:
        return []
    if not versions or versions[0] != newest:
        raise Corrupt("the current version is not the newest")
    return versions
