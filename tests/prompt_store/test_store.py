"""The store's promises, each in memory and on disk: versions, preconditions, corruption, pages."""

from typing import Any

import pytest

from prompt_store.container import Tensor
from prompt_store.errors import (
    OperationConflict,
    PreconditionFailed,
    PromptError,
    TaskDeleted,
    TaskNotFound,
    VersionDeleted,
    VersionNotFound,
)
from prompt_store.store import Store
from tests.prompt_store.make import ONE, THREE, TWO, put, text_task


def test_a_published_version_is_what_was_published(store: Store) -> None:
    """Task, metadata, bytes and tensors come back; a new store on the same place sees them too."""
    task, created = store.publish("intent", ONE, verified=True, op_id="op")
    assert created
    assert (task.name, task.version, task.event, task.digest, task.bytes) == (
        "intent",
        1,
        "publish",
        ONE.digest,
        len(ONE.data),
    )
    assert (task.metadata, task.verified, task.op_id, task.previous) == (ONE.metadata, True, "op", None)
    again = Store(store._objects)
    assert again.current("intent") == task
    assert again.load(task) == ONE
    assert again.blob(task) == ONE.data


def test_versions_count_up_and_never_change(store: Store) -> None:
    """Each publish takes the next number, names the one before, and leaves the others as they were."""
    tasks = [put(store, "a", file) for file in (ONE, TWO, ONE)]
    assert [(task.version, task.previous) for task in tasks] == [(1, None), (2, 1), (3, 2)]
    assert store.versions("a") == tasks[::-1]
    assert [store.get("a", number) for number in (1, 2, 3)] == tasks


def test_the_current_file_again_changes_nothing(store: Store) -> None:
    """The same bytes as the current version are no new version (U50); for another task they are one (U51)."""
    first = put(store, "a", ONE)
    assert store.publish("a", ONE, verified=False, op_id="again") == (first, False)
    assert len(store.versions("a")) == 1
    assert put(store, "b", ONE).version == 1


def test_if_match(store: Store) -> None:
    """A publish that names the current digest wins; any other gets the current version (U52)."""
    first = put(store, "a", ONE)
    assert put(store, "a", TWO, if_match=ONE.digest).version == 2
    with pytest.raises(PreconditionFailed) as caught:
        put(store, "a", THREE, if_match=first.digest)
    assert caught.value.current == store.current("a")
    with pytest.raises(PreconditionFailed) as caught:
        put(store, "new", THREE, if_match=first.digest)
    assert caught.value.current is None


def test_if_none_match(store: Store) -> None:
    """Create-only refuses an existing task (U53), and creates over a tombstone."""
    assert put(store, "a", ONE, if_none_match=True).version == 1
    with pytest.raises(PreconditionFailed):
        put(store, "a", TWO, if_none_match=True)
    store.delete("a", "d")
    assert store.publish("a", TWO, verified=False, op_id="x", if_none_match=True)[0].version == 3


def test_a_refused_publish_stores_nothing(store: Store) -> None:
    """A failed precondition leaves no blob."""
    put(store, "a", ONE)
    with pytest.raises(PreconditionFailed):
        put(store, "a", TWO, if_match=THREE.digest)
    assert list(store._objects.keys("blobs/")) == [f"blobs/{ONE.digest}.safetensors"]


def test_an_operation_is_done_once(store: Store) -> None:
    """The same operation again gives the same answer, even after others; its id for something else is a conflict."""
    first = store.publish("a", ONE, verified=False, op_id="p")
    store.publish("a", TWO, verified=False, op_id="q")
    assert store.publish("a", ONE, verified=False, op_id="p") == first
    rolled = store.rollback("a", 1, "r")
    assert store.rollback("a", 1, "r") == rolled
    tombstone = store.delete("a", "d")
    assert store.delete("a", "d") == tombstone
    assert len(store.versions("a")) == 4
    for op_id in ("p", "r", "d"):
        with pytest.raises(OperationConflict):
            store.publish("a", THREE, verified=False, op_id=op_id)


def test_an_operation_is_done_once_whatever_its_precondition(store: Store) -> None:
    """A retry after a lost answer does not fail on the precondition that its own success has outdated."""
    put(store, "a", ONE)
    first = store.publish("a", TWO, verified=False, op_id="p", if_match=ONE.digest)
    assert store.publish("a", TWO, verified=False, op_id="p", if_match=ONE.digest) == first
    patched = store.patch("a", {"labels": ["x"]}, op_id="m", if_match=TWO.digest)
    put(store, "a", THREE)
    assert store.patch("a", {"labels": ["x"]}, op_id="m", if_match=TWO.digest) == patched


def test_an_operation_id_of_another_patch_is_refused(store: Store) -> None:
    """A second change under one id is never acknowledged as the first; a retry is, even after a deletion."""
    put(store, "a", ONE)
    done = store.patch("a", {"labels": ["x"]}, op_id="m")
    for other in ({"labels": ["y"]}, {"description": "d"}, {}):
        with pytest.raises(OperationConflict):
            store.patch("a", other, op_id="m")
    store.publish("b", ONE, verified=False, op_id="p")
    for name, op_id in (("b", "p"), ("a", "1")):
        store.rollback("a", 1, "1")
        with pytest.raises(OperationConflict):
            store.patch(name, {"labels": ["x"]}, op_id=op_id)
    store.delete("a", "d")
    assert store.patch("a", {"labels": ["x"]}, op_id="m") == done


def test_a_rollback_may_demand_what_it_replaces(store: Store) -> None:
    """Only that digest; another is told."""
    put(store, "a", ONE)
    put(store, "a", TWO)
    with pytest.raises(PreconditionFailed):
        store.rollback("a", 1, "r", if_match=ONE.digest)
    assert store.rollback("a", 1, "r", if_match=TWO.digest)[0].digest == ONE.digest


def test_delete_is_a_tombstone(store: Store) -> None:
    """A deleted task takes a number, is gone from reads and lists, keeps its versions, and is deleted once (U60)."""
    put(store, "a", ONE)
    tombstone = store.delete("a", "d")
    assert (tombstone.version, tombstone.event, tombstone.digest, tombstone.bytes) == (2, "delete", None, 0)
    with pytest.raises(TaskDeleted) as caught:
        store.current("a")
    assert caught.value.tombstone == tombstone
    with pytest.raises(TaskDeleted):
        store.delete("a", "e")
    with pytest.raises(TaskNotFound):
        store.delete("never", "e")
    assert store.list() == ([], False)
    assert [task.version for task in store.versions("a")] == [2, 1]
    assert store.load(store.get("a", 1)) == ONE
    with pytest.raises(VersionDeleted):
        store.blob(tombstone)


def test_delete_honours_if_match(store: Store) -> None:
    """A delete of what is no longer current is refused."""
    put(store, "a", ONE)
    with pytest.raises(PreconditionFailed):
        store.delete("a", "d", if_match=TWO.digest)
    assert store.delete("a", "d", if_match=ONE.digest).version == 2


def test_publish_over_a_tombstone(store: Store) -> None:
    """A deleted task comes back with a version above its tombstone, the same bytes included (U55)."""
    put(store, "a", ONE)
    store.delete("a", "d")
    task, created = store.publish("a", ONE, verified=False, op_id="back")
    assert (task.version, task.previous, created) == (3, 2, True)


def test_rollback_is_a_new_version(store: Store) -> None:
    """Rolling back copies an older version to the top; to the current content it changes nothing (U59)."""
    for file in (ONE, TWO):
        put(store, "a", file)
    task, created = store.rollback("a", 1, "r")
    assert created
    assert (task.version, task.event, task.source_version, task.digest) == (3, "rollback", 1, ONE.digest)
    assert store.load(task) == ONE
    for version in (1, 3):
        assert store.rollback("a", version, f"s{version}") == (task, False)


def test_rollback_revives_a_deleted_task(store: Store) -> None:
    """A rollback is how a deleted task comes back; a tombstone or an unknown version is none to go back to (U58)."""
    put(store, "a", ONE)
    store.delete("a", "d")
    with pytest.raises(VersionDeleted):
        store.rollback("a", 2, "r")
    for version in (0, 3, 10**9):
        with pytest.raises(VersionNotFound):
            store.rollback("a", version, "r")
    with pytest.raises(TaskNotFound):
        store.rollback("b", 1, "r")
    assert store.rollback("a", 1, "r")[0].version == 3
    assert store.current("a").digest == ONE.digest


def test_patch_is_a_new_version_of_the_same_tensors(store: Store) -> None:
    """Metadata change, tensors do not; a patch that changes nothing is no version; a bad one changes nothing."""
    put(store, "a", ONE)
    task, created = store.patch("a", {"labels": ["x", "y"], "description": "d"}, op_id="m")
    assert created
    assert (task.version, task.event) == (2, "publish")
    file = store.load(task)
    assert file.prompt.tensors == ONE.prompt.tensors
    assert (file.metadata.labels, file.metadata.description) == (("x", "y"), "d")
    assert store.patch("a", {}, op_id="n") == (task, False)
    refused: list[dict[str, Any]] = [{"template": "{soft:9}"}, {"length": 2}, {"labels": []}]
    for bad in refused:
        with pytest.raises(PromptError):
            store.patch("a", bad, op_id="o")
    with pytest.raises(PreconditionFailed):
        store.patch("a", {"labels": None}, op_id="o", if_match=ONE.digest)
    assert store.current("a") == task
    with pytest.raises(TaskNotFound):
        store.patch("b", {}, op_id="o")


def test_text_tasks_are_stored_alike(store: Store) -> None:
    """A task without tensors has a file, a digest and versions like any other."""
    file = text_task("Say {input}")
    assert store.load(put(store, "a", file)) == file


@pytest.mark.parametrize("name", ["", "..", "a/b", "a!", "x" * 129, "base", "a\n", "../../etc"])
def test_bad_names_reach_no_path(store: Store, name: str) -> None:
    """What is no task id is not found, and cannot be written, whatever called the store (H11)."""
    for read in (store.current, store.versions, lambda name: store.get(name, 1)):
        with pytest.raises(TaskNotFound):
            read(name)
    for write in (
        lambda: store.publish(name, ONE, verified=False, op_id="p"),
        lambda: store.patch(name, {}, op_id="p"),
        lambda: store.rollback(name, 1, "p"),
        lambda: store.delete(name, "p"),
    ):
        with pytest.raises(TaskNotFound):
            write()
    assert list(store._objects.keys("")) in ([], ["softprompt-store.json"])


@pytest.mark.parametrize("op_id", ["", "x" * 256, "a b", "a\n", "ü"])
def test_operation_ids_are_bounded(store: Store, op_id: str) -> None:
    """An operation id is visible ASCII of at most 255 characters."""
    with pytest.raises(ValueError, match="255"):
        store.publish("a", ONE, verified=False, op_id=op_id)


@pytest.mark.parametrize("location", ["az://bucket", "http://host/", "s3://", "ftp://host/x", "://"])
def test_a_location_that_is_none_is_refused_clearly(location: str) -> None:
    """A fault of the configuration, said in words."""
    with pytest.raises(ValueError, match=r"s3://.*gs://.*az://"):
        Store.open(location)


@pytest.mark.parametrize("location", ["s3://bucket/x", "gs://bucket", "az://container/folder"])
def test_a_bucket_is_opened_without_asking_it(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may start before its bucket can be reached."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    Store.open(location)


def test_a_memory_store_opens() -> None:
    """memory:// is a store of its own each time."""
    put(Store.open("memory://"), "a", ONE)
    assert Store.open("memory://").list() == ([], False)


def test_the_loaded_tensors_are_the_stored_ones(store: Store) -> None:
    """What is loaded is bound to the digest: the tensors are read from the verified bytes themselves."""
    loaded = store.load(put(store, "a", ONE))
    assert isinstance(loaded.prompt.tensors["embeddings"], Tensor)
    assert loaded.prompt.tensors["embeddings"].data in loaded.data
