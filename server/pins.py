"""Tasks whose current soft prompt is the last to leave the memory: `--pin`. Knows names and digests; no store."""

from collections.abc import Collection

from prompt_store.task import Task
from server.engine.engine import Engine


class Pins:
    """One digest a name: the current version's. The engine holds it until another takes its place."""

    def __init__(self, names: Collection[str], engine: Engine) -> None:
        self._names = frozenset(names)
        self._engine = engine
        self._digests: dict[str, str] = {}

    def wants(self, task: Task) -> bool:
        """Whether this version is to be pinned and is not yet."""
        return task.name in self._names and self._digests.get(task.name) != task.digest

    def take(self, task: Task) -> bool:
        """True when the version is pinned from here on, in the place of the one before it."""
        if task.name not in self._names or task.digest is None:
            return False
        if self.wants(task):
            self.leave(task.name)
        self._digests[task.name] = task.digest
        return True

    def leave(self, name: str) -> None:
        """The task is gone, or another version of it is current."""
        digest = self._digests.pop(name, None)
        if digest is not None and digest not in self._digests.values():  # the same file may have two names
            self._engine.unpin(digest)
