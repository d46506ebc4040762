"""What is done to a store when something fails: what stands before, what is done, and every state that may stand after.

To try another operation, add it to OPERATIONS: kills, power cuts and failing calls all go through that table. Knows no
fault.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prompt_store.errors import Corrupt, TaskDeleted, TaskNotFound
from prompt_store.garbage import collect
from prompt_store.keys import blob_key, trash_key
from prompt_store.local import TEMPORARY
from prompt_store.prompt import PromptFile
from prompt_store.retention import Rules
from prompt_store.store import Store
from tests.prompt_store.make import ONE, THREE, TWO, embeddings

History = Sequence[tuple[str, str | None]]
"""(event, digest) of every version of a task, oldest first; a digest is DAMAGED where the file cannot be loaded."""
State = Mapping[str, History]
Step = Callable[[Store], object]

DAMAGED = "damaged"
TASKS = ("a", "b")
LEFT_BEHIND = 3


@dataclass(frozen=True, slots=True)
class Operation:
    """`before` makes the store that the fault meets; without it there is none yet. `act`, done again, changes nothing.

    `states` are those that may be found when `act` was not acknowledged; once it was, only the last. `gradual`: what is
    done before a refusal stays done.
    """

    before: Callable[[Path], None] | None
    act: Step
    states: Sequence[State]
    gradual: bool = False

    def run(self, root: Path) -> None:
        """As a process would: open, then act. Returning is the acknowledgement."""
        self.act(Store.open(str(root)))


def publish(name: str, file: PromptFile) -> Step:
    return lambda store: store.publish(name, file, verified=False, op_id=f"publish-{file.digest[:8]}")


def delete(store: Store) -> None:
    """As a client would that had no answer: an operation done before is the same tombstone."""
    try:
        store.delete("a", "delete")
    except TaskDeleted as deleted:
        if deleted.tombstone.op_id != "delete":
            raise


def rollback(store: Store) -> None:
    store.rollback("a", 1, "rollback")


def holding(*steps: Step) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        store = Store.open(str(root))
        for step in steps:
            step(store)

    return make


def with_damage(root: Path) -> None:
    """A task whose file has lost its end."""
    holding(publish("a", ONE))(root)
    os.truncate(root / "blobs" / f"{ONE.digest}.safetensors", len(ONE.data) - 1)


def with_garbage(root: Path) -> None:
    """A version to let go, a file that nothing names, one that lies in the trash, and one there that is named."""
    holding(publish("a", ONE), publish("a", TWO), publish("b", THREE))(root)
    objects = Store.open(str(root)).objects
    objects.move(blob_key(THREE.digest), trash_key(THREE.digest))
    for key, seed in ((blob_key, 20), (trash_key, 21)):
        file = embeddings(seed=seed)
        objects.create(key(file.digest), file.data)


def collect_all(store: Store) -> None:
    collect(store.objects, Rules(grace=0, keep=1))


def with_leftovers(root: Path) -> None:
    """What killed writers leave."""
    holding(publish("a", ONE))(root)
    for number in range(LEFT_BEHIND):
        (root / TEMPORARY / f"left{number}").write_bytes(b"half")


_ONE: History = [("publish", ONE.digest)]
_BOTH: History = [*_ONE, ("publish", TWO.digest)]
_THREE: History = [("publish", THREE.digest)]
_NONE: History = []

OPERATIONS: Mapping[str, Operation] = {
    "first": Operation(None, publish("a", ONE), [{"a": _NONE}, {"a": _ONE}]),
    "new task": Operation(
        holding(publish("a", TWO)),
        publish("b", ONE),
        [{"a": _BOTH[1:], "b": _NONE}, {"a": _BOTH[1:], "b": _ONE}],
    ),
    "publish": Operation(holding(publish("a", ONE)), publish("a", TWO), [{"a": _ONE}, {"a": _BOTH}]),
    "shared file": Operation(
        holding(publish("a", ONE)), publish("b", ONE), [{"a": _ONE, "b": _NONE}, {"a": _ONE, "b": _ONE}]
    ),
    "mend": Operation(
        with_damage,
        publish("b", ONE),
        [{"a": [("publish", DAMAGED)], "b": _NONE}, {"a": _ONE, "b": _NONE}, {"a": _ONE, "b": _ONE}],
    ),
    "delete": Operation(
        holding(publish("a", ONE)),
        delete,
        [{"a": _ONE}, {"a": [*_ONE, ("delete", None)]}],
    ),
    "rollback": Operation(
        holding(publish("a", ONE), publish("a", TWO)),
        rollback,
        [{"a": _BOTH}, {"a": [*_BOTH, ("rollback", ONE.digest)]}],
    ),
    "collect": Operation(
        with_garbage,
        collect_all,
        [{"a": _BOTH, "b": _THREE}, {"a": _BOTH[1:], "b": _THREE}],
        gradual=True,
    ),
    "start": Operation(with_leftovers, lambda _store: None, [{"a": _ONE}]),
}


def state(store: Store) -> State:
    """What a store holds, every version of every task loaded whole."""
    return {name: history(store, name) for name in TASKS}


def history(store: Store, name: str) -> History:
    try:
        versions = store.versions(name)[::-1]
    except TaskNotFound:
        return []
    return [(task.event, None if task.digest is None else _loaded(store, name, task.version)) for task in versions]


def _loaded(store: Store, name: str, version: int) -> str:
    try:
        return store.load(store.get(name, version)).digest
    except Corrupt:
        return DAMAGED
