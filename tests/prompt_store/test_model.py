"""Any sequence of operations against the simplest store that could be right: a list of versions per task."""

import tempfile
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from prompt_store.errors import (
    PreconditionFailed,
    StoreError,
    TaskDeleted,
    TaskNotFound,
    VersionDeleted,
    VersionNotFound,
)
from prompt_store.garbage import collect
from prompt_store.prompt import PromptFile
from prompt_store.retention import Rules
from prompt_store.store import Store
from tests.prompt_store.make import ONE, THREE, TWO
from tests.s3 import BUCKET

NAMES = st.sampled_from(["a", "a-b", "b"])
FILES = st.sampled_from([ONE, TWO, THREE])


class StoreMachine(RuleBasedStateMachine):
    """`kept` maps a task to its digests by version, None for a tombstone."""

    def __init__(self) -> None:
        """Which place is drawn first."""
        super().__init__()
        self.kept: dict[str, list[str | None]] = {}
        self.operations = 0
        self.done: list[tuple[str, PromptFile, str, int]] = []

    @initialize(local=st.booleans())
    def begin(self, local: bool) -> None:
        """An empty store on disk or in memory."""
        self.folder = tempfile.TemporaryDirectory() if local else None
        self.location = self.new_location()
        self.store = Store.open(self.location)

    def new_location(self) -> str:
        """Where nothing is yet."""
        return f"{self.folder.name}/store" if self.folder else "memory://"

    def teardown(self) -> None:
        """Remove the directory."""
        if getattr(self, "folder", None):
            self.folder.cleanup()  # type: ignore[union-attr]

    def op_id(self) -> str:
        """A new one each time."""
        self.operations += 1
        return f"op{self.operations}"

    def top(self, name: str) -> str | None:
        """The current digest; None when there is none."""
        return self.kept.get(name, [None])[-1]

    def refused(self, error: type[StoreError], *call: Any, **options: Any) -> None:
        """The call raises this."""
        with pytest.raises(error):
            call[0](*call[1:], **options)

    @rule(name=NAMES, file=FILES, match=st.none() | FILES, create=st.booleans())
    def publish(self, name: str, file: PromptFile, match: PromptFile | None, create: bool) -> None:
        """With and without preconditions."""
        top = self.top(name)
        options: dict[str, Any] = {"if_match": match and match.digest, "if_none_match": create, "verified": False}
        op_id = self.op_id()
        if (match and match.digest != top) or (create and top is not None):
            self.refused(PreconditionFailed, self.store.publish, name, file, op_id=op_id, **options)
            return
        task, created = self.store.publish(name, file, op_id=op_id, **options)
        assert created is (file.digest != top)
        if created:
            self.kept.setdefault(name, []).append(file.digest)
            self.done.append((name, file, op_id, task.version))
        assert (task.version, task.digest) == (len(self.kept[name]), file.digest)

    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        """An operation that was done is not done twice."""
        if self.done:
            name, file, op_id, version = data.draw(st.sampled_from(self.done))
            task, created = self.store.publish(name, file, verified=False, op_id=op_id)
            assert (task.version, created) == (version, True)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        """A tombstone, or a refusal that says why."""
        if name not in self.kept:
            self.refused(TaskNotFound, self.store.delete, name, self.op_id())
        elif self.top(name) is None:
            self.refused(TaskDeleted, self.store.delete, name, self.op_id())
        else:
            self.kept[name].append(None)
            assert self.store.delete(name, self.op_id()).version == len(self.kept[name])

    @rule(name=NAMES, version=st.integers(1, 6))
    def rollback(self, name: str, version: int) -> None:
        """To any version, there or not."""
        digests = self.kept.get(name, [])
        if not digests:
            self.refused(TaskNotFound, self.store.rollback, name, version, self.op_id())
        elif version > len(digests):
            self.refused(VersionNotFound, self.store.rollback, name, version, self.op_id())
        elif digests[version - 1] is None:
            self.refused(VersionDeleted, self.store.rollback, name, version, self.op_id())
        else:
            task, created = self.store.rollback(name, version, self.op_id())
            assert created is (digests[version - 1] != digests[-1])
            if created:
                digests.append(digests[version - 1])
            assert (task.version, task.digest) == (len(digests), digests[-1])

    @rule()
    def restart(self) -> None:
        """What is on disk is all there is."""
        if self.location != "memory://":
            self.store = Store.open(self.location)

    @rule()
    def collect(self) -> None:
        """What no version names goes, at once; nothing that one names does."""
        collect(self.store.objects, Rules(grace=0))

    @invariant()
    def agrees(self) -> None:
        """Versions, lists and files are those of the model."""
        if not hasattr(self, "store"):
            return
        current = sorted(name for name in self.kept if self.top(name) is not None)
        assert [task.name for task in self.store.list()[0]] == current
        for name, digests in self.kept.items():
            assert [task.digest for task in self.store.versions(name)] == digests[::-1]
        for name in current:
            task = self.store.current(name)
            assert self.store.load(task).digest == self.top(name)


class BucketMachine(StoreMachine):
    """The same in a bucket."""

    def new_location(self) -> str:
        """A folder of its own."""
        return f"s3://{BUCKET}/model-{uuid4().hex}"


def test_on_disk_and_in_memory() -> None:
    """Forty sequences of at most 25 operations."""
    run_state_machine_as_test(StoreMachine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))


def test_in_a_bucket(s3_port: int) -> None:
    """A real S3 server; fewer and shorter, since each operation is some ten requests."""
    run_state_machine_as_test(BucketMachine, settings=settings(max_examples=8, stateful_step_count=12, deadline=None))
