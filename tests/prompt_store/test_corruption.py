"""What the store makes of objects that were damaged, lost, moved or unmounted behind its back."""

from pathlib import Path

import pytest

from prompt_store.errors import (
    Corrupt,
    StoreUnavailable,
    TaskNotFound,
    VersionNotFound,
)
from prompt_store.prompt import PromptFile
from prompt_store.store import Store
from tests.prompt_store.make import ONE, THREE, TWO, put


def damage(store: Store, key: str, data: bytes) -> None:
    """Change an object behind the store's back."""
    store._objects.replace(key, data)


def blob_key(file: PromptFile) -> str:
    """Where a file lies."""
    return f"blobs/{file.digest}.safetensors"


@pytest.mark.parametrize("position", [0, 8, 60, -40, -1])
def test_a_flipped_byte_of_a_blob_is_never_served(store: Store, position: int) -> None:
    """A blob that differs from its digest is Corrupt, and nothing else is harmed (C1)."""
    task, other = put(store, "a", ONE), put(store, "b", TWO)
    data = bytearray(ONE.data)
    data[position] ^= 1
    damage(store, blob_key(ONE), bytes(data))
    for read in (store.load, store.blob):
        with pytest.raises(Corrupt):
            read(task)
    assert store.load(other) == TWO
    assert [task.name for task in store.list()[0]] == ["a", "b"]


@pytest.mark.parametrize(
    "data", [b"", ONE.data[:-1], ONE.data + b"\0", TWO.data], ids=["empty", "short", "long", "other"]
)
def test_a_blob_of_other_bytes_is_never_served(store: Store, data: bytes) -> None:
    """Truncated, emptied, or another valid prompt in its place: the digest decides, not validity (C2)."""
    task = put(store, "a", ONE)
    damage(store, blob_key(ONE), data)
    with pytest.raises(Corrupt):
        store.load(task)


def test_a_lost_blob_is_corrupt_not_absent(tmp_path: Path) -> None:
    """A task whose blob is gone exists and cannot be served: never "not found" (C3)."""
    store = Store.open(str(tmp_path / "store"))
    task = put(store, "a", ONE)
    (tmp_path / "store" / blob_key(ONE)).unlink()
    with pytest.raises(Corrupt, match="missing"):
        store.load(store.current("a"))
    with pytest.raises(Corrupt):
        store.rollback("a", 1, "r")
    assert store.current("a") == task


def test_an_upload_mends_its_blob(store: Store) -> None:
    """The same file uploaded again puts a damaged blob right, as the current version or another task's."""
    task = put(store, "a", ONE)
    for number, name in enumerate(("a", "b")):
        damage(store, blob_key(ONE), b"damaged")
        store.publish(name, ONE, verified=False, op_id=f"again{number}")
        assert store.load(task) == ONE


def test_rollback_to_a_corrupt_version(store: Store) -> None:
    """A version whose blob is damaged is not brought back, and the current one stays (U58)."""
    put(store, "a", ONE)
    second = put(store, "a", TWO)
    damage(store, blob_key(ONE), b"damaged")
    with pytest.raises(Corrupt):
        store.rollback("a", 1, "r")
    assert store.current("a") == second


def test_a_corrupt_manifest_hides_no_older_version(store: Store) -> None:
    """The newest manifest damaged makes the task Corrupt, not its older self; lists and others go on (C1)."""
    put(store, "a", ONE)
    put(store, "a", TWO)
    put(store, "b", ONE)
    damage(store, "tasks/a!/00000002.json", b"{}")
    with pytest.raises(Corrupt):
        store.current("a")
    with pytest.raises(Corrupt):
        store.delete("a", "d")
    with pytest.raises(Corrupt):
        store.publish("a", THREE, verified=False, op_id="x", if_match=TWO.digest)
    with pytest.raises(Corrupt):
        store.publish("a", THREE, verified=False, op_id="x", if_none_match=True)
    assert [task.name for task in store.list()[0]] == ["b"]
    assert [task.version for task in store.versions("a")] == [1]


def test_the_way_out_of_a_corrupt_manifest(store: Store) -> None:
    """A publish or a rollback without precondition goes on top of a version that cannot be read."""
    put(store, "a", ONE)
    put(store, "a", TWO)
    damage(store, "tasks/a!/00000002.json", b"{}")
    assert store.rollback("a", 1, "r")[0].version == 3
    damage(store, "tasks/a!/00000003.json", b"{}")
    assert store.publish("a", THREE, verified=False, op_id="x")[0].version == 4
    assert store.current("a").digest == THREE.digest


def test_gaps_and_strangers_among_manifests(tmp_path: Path) -> None:
    """A missing number, a name of another form and a stray folder do not matter; the highest number is current (C5)."""
    store = Store.open(str(tmp_path / "store"))
    for file in (ONE, TWO, THREE):
        put(store, "a", file)
    folder = tmp_path / "store" / "tasks" / "a!"
    (folder / "00000001.json").unlink()
    for name in ("x.json", "4.json", "00000009.json~", "000000010.json", "00000000.json"):
        (folder / name).write_bytes(b"")
    (folder / "00000008").mkdir()
    (tmp_path / "store" / "tasks" / "no task").mkdir()
    (tmp_path / "store" / "tasks" / "empty!").mkdir()
    assert store.current("a").version == 3
    assert [task.version for task in store.versions("a")] == [3, 2]
    assert [task.name for task in store.list()[0]] == ["a"]
    with pytest.raises(VersionNotFound):
        store.get("a", 1)
    with pytest.raises(TaskNotFound):
        store.current("empty")


def test_the_last_number_is_the_end(tmp_path: Path) -> None:
    """Past eight digits there is no version; nothing wraps around."""
    store = Store.open(str(tmp_path / "store"))
    put(store, "a", ONE)
    (tmp_path / "store" / "tasks" / "a!" / "99999999.json").write_bytes(b"{}")
    with pytest.raises(StoreUnavailable):
        store.publish("a", TWO, verified=False, op_id="x")


def test_a_vanished_store_has_lost_no_task(tmp_path: Path) -> None:
    """An unmounted store is unavailable: never an empty list, never "not found" (C10, promise 6)."""
    store = Store.open(str(tmp_path / "store"))
    task = put(store, "a", ONE)
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").mkdir()
    for ask in (
        lambda: store.current("a"),
        lambda: store.current("unknown"),
        lambda: store.versions("a"),
        lambda: store.get("a", 1),
        store.list,
        lambda: store.load(task),
        lambda: store.publish("a", TWO, verified=False, op_id="x"),
        lambda: store.delete("a", "x"),
    ):
        with pytest.raises(StoreUnavailable):
            ask()
    assert list((tmp_path / "store").iterdir()) == []
