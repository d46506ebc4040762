"""Collecting garbage: what goes, what stays, and what nobody can lose by it."""

from pathlib import Path

import pytest

from prompt_store.errors import Corrupt, OutcomeUnknown, StoreUnavailable
from prompt_store.garbage import bring_back, collect
from prompt_store.keys import blob_key, manifest_key, trash_key
from prompt_store.local import LocalObjects
from prompt_store.objects import MemoryObjects, Objects
from prompt_store.retention import DAY, Rules
from prompt_store.store import Store
from tests.fakes import FailingObjects
from tests.prompt_store.fakes import Clocked
from tests.prompt_store.make import ONE, THREE, TWO, embeddings, orphan, put, whole

AT_ONCE = Rules(grace=0)
YEARS = 10 * 365 * DAY


def test_what_no_version_names_goes_in_two_steps() -> None:
    """After a grace into the trash, after another for good; what is named, by an old version too, stays."""
    objects = Clocked()
    store = Store(objects)
    put(store, "a", ONE)
    put(store, "a", TWO)
    digest = orphan(objects, THREE)
    assert collect(objects, Rules()).young.count == 1
    objects.clock += DAY
    done = collect(objects, Rules())
    assert (done.moved.count, done.moved.bytes, done.removed.count) == (1, len(THREE.data), 0)
    assert (objects.has(blob_key(digest)), objects.has(trash_key(digest))) == (False, True)
    assert collect(objects, Rules()).waiting.count == 1
    objects.clock += DAY
    assert collect(objects, Rules()).removed.count == 1
    assert [entry.key for entry in objects.entries("trash/")] == []
    assert [task.version for task in store.versions("a")] == [2, 1]
    whole(store)


def test_a_dry_run_says_it_and_does_nothing(objects: Objects) -> None:
    """The same counts as the collection after it."""
    store = Store(objects)
    for file in (ONE, TWO, THREE):
        put(store, "a", file)
    orphan(objects, embeddings(seed=10))
    before = [entry.key for entry in objects.entries("")]
    rules = {"grace": 0.0, "keep": 1}
    said = collect(objects, Rules(**rules, dry_run=True))  # type: ignore[arg-type]  # floats and ints, by name
    assert [entry.key for entry in objects.entries("") if entry.key != ".alone"] == before
    done = collect(objects, Rules(**rules))  # type: ignore[arg-type]  # likewise
    assert said == done
    assert (done.versions.count, done.moved.count) == (2, 3)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    """No lock, and no file that tells the time: a disk may be read-only. What is young is, by this machine's clock."""
    objects = LocalObjects(tmp_path)
    put(Store(objects), "a", ONE)
    orphan(objects, THREE)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    said = collect(objects, Rules(dry_run=True))
    assert (said.young.count, said.moved.count) == (1, 0)
    assert collect(objects, Rules(grace=0, dry_run=True)).moved.count == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))} == before


@pytest.mark.parametrize("jump", [YEARS, -DAY, -YEARS])
def test_clocks_that_jump_lose_nothing_that_is_named(jump: float) -> None:
    """Whatever the place's clock says between any two calls, only what nobody names can go (X6)."""
    objects = Clocked()
    store = Store(objects)
    for number, file in enumerate((ONE, TWO, THREE)):
        store.publish("a", file, verified=False, op_id=str(number))
    store.delete("a", "d")
    for _ in range(5):
        objects.clock += jump
        collect(objects, Rules())
        store.rollback("a", 1, f"r{objects.clock}")
        whole(store)
    assert len(store.versions("a")) >= 5


def test_what_is_named_comes_back_out_of_the_trash(objects: Objects) -> None:
    """It is read there meanwhile, and the next collection moves it back; so does the next upload."""
    store = Store(objects)
    task = put(store, "a", ONE)
    objects.move(blob_key(ONE.digest), trash_key(ONE.digest))
    assert store.load(task).data == ONE.data
    assert collect(objects, AT_ONCE).back.count == 1
    assert objects.has(blob_key(ONE.digest))
    objects.move(blob_key(ONE.digest), trash_key(ONE.digest))
    store.publish("b", ONE, verified=False, op_id="b")
    assert objects.has(blob_key(ONE.digest))
    assert collect(objects, AT_ONCE).back.count == 0
    assert not objects.has(trash_key(ONE.digest))
    whole(store)


def test_of_two_copies_the_whole_one_stays(objects: Objects) -> None:
    """The trash mends a damaged file; a damaged copy in the trash goes; of two damaged ones neither is chosen."""
    place, copy = blob_key(ONE.digest), trash_key(ONE.digest)
    for damaged, good in ((place, copy), (copy, place)):
        objects.create(damaged, b"damaged")
        objects.create(good, ONE.data)
        bring_back(objects, ONE.digest)
        assert (objects.get(place), objects.has(copy)) == (ONE.data, False)
        objects.remove(place)
    objects.create(place, b"damaged")
    objects.create(copy, b"as well")
    bring_back(objects, ONE.digest)
    assert (objects.get(place), objects.get(copy)) == (b"damaged", b"as well")


def test_what_is_named_is_not_removed_though_it_cannot_go_back(objects: Objects) -> None:
    """Two damaged copies of a file that a version names: both stay, for somebody to look at."""
    put(Store(objects), "a", ONE)
    objects.replace(blob_key(ONE.digest), b"damaged")
    objects.create(trash_key(ONE.digest), b"as well")
    assert collect(objects, AT_ONCE).removed.count == 0
    assert (objects.get(blob_key(ONE.digest)), objects.get(trash_key(ONE.digest))) == (b"damaged", b"as well")


def test_under_damage_nothing_is_collected(objects: Objects) -> None:
    """What an unreadable manifest names is not known; told to, a collection goes on without it."""
    store = Store(objects)
    put(store, "a", ONE)
    put(store, "a", TWO)
    objects.replace(manifest_key("a", 1), b"garbage")
    with pytest.raises(Corrupt, match="version 1 of task a"):
        collect(objects, Rules(grace=0, keep=1))
    assert (objects.has(blob_key(ONE.digest)), objects.has(blob_key(TWO.digest))) == (True, True)
    collect(objects, Rules(grace=0, keep=1, despite_damage=True))
    assert objects.has(manifest_key("a", 1))
    assert (objects.has(blob_key(ONE.digest)), objects.has(trash_key(ONE.digest))) == (False, True)
    whole(store)


def test_a_place_that_is_down_loses_nothing(objects: Objects) -> None:
    """A listing that fails is not one that is empty."""
    failing = FailingObjects()
    put(Store(failing), "a", ONE)
    failing.down = True
    with pytest.raises(StoreUnavailable):
        collect(failing, AT_ONCE)
    failing.down = False
    whole(Store(failing))


def test_versions_may_be_kept_in_number() -> None:
    """The newest that hold something stay with what follows them; numbers go on; what was followed lately stays."""
    objects = Clocked()
    store = Store(objects)
    for number in range(5):
        store.publish("a", (ONE, TWO)[number % 2], verified=False, op_id=str(number))
    store.delete("a", "d")
    put(store, "b", THREE)
    assert collect(objects, Rules(keep=2)).versions.count == 0
    objects.clock += 2 * DAY
    store.rollback("a", 5, "late")
    assert collect(objects, Rules(keep=1)).versions.count == 5
    assert [task.version for task in store.versions("a")] == [7, 6]
    objects.clock += 2 * DAY
    assert collect(objects, Rules(keep=1)).versions.count == 1
    assert [task.version for task in store.versions("a")] == [7]
    assert store.publish("a", TWO, verified=False, op_id="again")[0].version == 8
    assert [task.version for task in store.versions("b")] == [1]


def test_a_deleted_task_may_be_forgotten_but_for_its_tombstone() -> None:
    """After its time nothing remains to bring back, and its numbers go on; `keep` leaves what a rollback wants."""
    objects = Clocked()
    store = Store(objects)
    put(store, "a", ONE)
    put(store, "a", TWO)
    store.delete("a", "d")
    objects.clock += 2 * DAY
    assert collect(objects, Rules(keep=1)).versions.count == 1
    assert [task.version for task in store.versions("a")] == [3, 2]
    assert collect(objects, Rules(deleted_after=30 * DAY)).versions.count == 0
    objects.clock += 30 * DAY
    done = collect(objects, Rules(deleted_after=30 * DAY))
    assert (done.versions.count, done.moved.count) == (1, 1)
    assert [(task.version, task.event) for task in store.versions("a")] == [(3, "delete")]
    assert store.publish("a", ONE, verified=False, op_id="again")[0].version == 4
    whole(store)


def test_a_damaged_newest_version_does_not_cost_the_last_good_one(objects: Objects) -> None:
    """`keep` counts what can be read and holds something."""
    store = Store(objects)
    for file in (ONE, TWO, THREE):
        put(store, "a", file)
    objects.replace(manifest_key("a", 3), b"garbage")
    collect(objects, Rules(grace=0, keep=1, despite_damage=True))
    assert [task.version for task in store.versions("a")] == [2]
    assert store.load(store.get("a", 2)).digest == TWO.digest


@pytest.mark.parametrize("wrong", [{"grace": -1}, {"keep": 0}, {"deleted_after": -1}])
def test_rules_that_are_none(wrong: dict[str, float]) -> None:
    """A rule that would take everything by a slip is refused."""
    with pytest.raises(ValueError, match=r"0 or more|at least one"):
        Rules(**wrong)  # type: ignore[arg-type]  # floats and ints, by name


def test_a_directory_is_collected_by_one_at_a_time(tmp_path: Path) -> None:
    """The second is told, and the lock ends with its owner."""
    first, second = LocalObjects(tmp_path / "store"), LocalObjects(tmp_path / "store")
    with first.alone(), pytest.raises(StoreUnavailable, match="another process"):
        collect(second, AT_ONCE)
    collect(second, AT_ONCE)


def test_a_place_that_fails_after_the_manifest_is_an_unknown_outcome() -> None:
    """A version may stand then: asked again with the same id, it is found, and its file looked for again."""

    class Blind(MemoryObjects):
        blind = True

        def has(self, key: str) -> bool:
            if self.blind and key.startswith("blobs/"):
                raise StoreUnavailable("the place cannot be reached")
            return super().has(key)

    objects = Blind()
    store = Store(objects)
    with pytest.raises(OutcomeUnknown):
        store.publish("a", ONE, verified=False, op_id="p")
    objects.blind = False
    objects.remove(blob_key(ONE.digest))
    task, created = store.publish("a", ONE, verified=False, op_id="p")
    assert (task.version, created, store.load(task).data) == (1, True, ONE.data)
