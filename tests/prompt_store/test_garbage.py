"""Collecting garbage: what goes, what stays, and what nobody can lose by it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_store.errors import Corrupt, OutcomeUnknown, StoreUnavailable, VersionNotFound
from prompt_store.garbage import bring_back, collect
from prompt_store.keys import blob_key, manifest_key, trash_key
from prompt_store.local import LocalObjects
from prompt_store.objects import MemoryObjects, Objects
from prompt_store.prompt import PromptFile
from prompt_store.retention import DAY, Rules
from prompt_store.store import Store
from tests.fakes import FailingObjects
from tests.prompt_store.make import ONE, THREE, TWO, embeddings, put
from tests.prompt_store.turns import Turns

AT_ONCE = Rules(grace=0)
YEARS = 10 * 365 * DAY
PROMPTS = [embeddings(seed=seed) for seed in range(10, 14)]


class Clocked(MemoryObjects):
    """A place whose clock a test sets."""

    def __init__(self) -> None:
        """At some moment."""
        super().__init__()
        self.clock = 1e9

    def now(self) -> float:
        """As a real clock, it is a little later each time."""
        self.clock += 0.001
        return self.clock


def orphan(objects: Objects, file: PromptFile) -> str:
    """A file that no version names, as a publisher leaves it who died."""
    objects.create(blob_key(file.digest), file.data)
    return file.digest


def whole(store: Store) -> None:
    """Every version that can be seen is read, and stands in its place."""
    for task in store.list(limit=1000)[0]:
        for version in store.versions(task.name):
            if version.digest is not None:
                assert store.load(version).digest == version.digest


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
    orphan(objects, PROMPTS[0])
    before = [entry.key for entry in objects.entries("")]
    rules = {"grace": 0.0, "keep": 1}
    said = collect(objects, Rules(**rules, dry_run=True))  # type: ignore[arg-type]  # floats and ints, by name
    assert [entry.key for entry in objects.entries("") if entry.key != ".alone"] == before
    done = collect(objects, Rules(**rules))  # type: ignore[arg-type]  # likewise
    assert said == done
    assert (done.versions.count, done.moved.count) == (2, 3)


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
    assert collect(objects, AT_ONCE).back.count == 1
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


def publisher(objects: Objects) -> None:
    """Relies on a file that stands there already and that no version names."""
    Store(objects).publish("p", ONE, verified=False, op_id="p")


def restorer(objects: Objects) -> None:
    """Relies on the file of a version that may go meanwhile."""
    Store(objects).rollback("a", 1, "r")


def schedules(first: str, second: str, most: int) -> Iterator[list[str]]:
    """So many calls of one, so many of the other, then the first to its end: every way of it."""
    for before in range(most):
        for between in range(most):
            yield [first] * before + [second] * between + [first] * 1000


@pytest.mark.parametrize("age", [0.0, DAY])
@pytest.mark.parametrize("in_trash", ["blob", "trash", "both"])
def test_a_publisher_and_a_collection_call_by_call(age: float, in_trash: str) -> None:
    """Wherever one interrupts the other, an acknowledged version has its file afterwards, and keeps it."""
    for order in [*schedules("publisher", "collector", 14), *schedules("collector", "publisher", 14)]:
        objects = Clocked()
        for key in {"blob": [blob_key], "trash": [trash_key], "both": [blob_key, trash_key]}[in_trash]:
            objects.create(key(ONE.digest), ONE.data)
        objects.clock += age
        Turns(objects, order).run(publisher=publisher, collector=lambda place: collect(place, AT_ONCE))
        store = Store(objects)
        assert store.load(store.current("p")).data == ONE.data
        for _ in range(3):
            collect(objects, AT_ONCE)
        assert store.load(store.current("p")).data == ONE.data, order
        assert objects.has(blob_key(ONE.digest))


def test_a_rollback_and_a_retention_call_by_call() -> None:
    """A version whose source is taken away meanwhile has its content all the same."""
    for order in [*schedules("restorer", "collector", 16), *schedules("collector", "restorer", 16)]:
        objects = Clocked()
        put(Store(objects), "a", ONE)
        put(Store(objects), "a", TWO)
        try:
            Turns(objects, order).run(restorer=restorer, collector=lambda place: collect(place, Rules(grace=0, keep=1)))
        except (Corrupt, VersionNotFound):
            continue  # it was told: nothing was acknowledged
        store = Store(objects)
        for _ in range(3):
            collect(objects, AT_ONCE)
        assert store.load(store.current("a")).data == ONE.data


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["one", "two", "first", "second"]), max_size=120))
def test_publishers_and_two_collections_in_any_order(order: list[str]) -> None:
    """Two who publish and delete the same file, two who collect on a place that cannot tell them apart."""
    objects = Clocked()
    orphan(objects, ONE)

    def publishing(name: str, place: Objects) -> None:
        store = Store(place)
        store.publish(name, ONE, verified=False, op_id=f"{name}-1")
        store.delete(name, f"{name}-2")
        store.publish(name, ONE, verified=False, op_id=f"{name}-3")

    Turns(objects, order).run(
        one=lambda place: publishing("one", place),
        two=lambda place: publishing("two", place),
        first=lambda place: collect(place, Rules(grace=0.0005)),
        second=lambda place: collect(place, Rules(grace=3600)),
    )
    store = Store(objects)
    for _ in range(2):
        for name in ("one", "two"):
            assert store.load(store.current(name)).data == ONE.data
        collect(objects, AT_ONCE)


def test_real_threads_on_a_real_directory(tmp_path: Path) -> None:
    """Publishers of a few contents beside collections without a grace: every acknowledged version is read back."""
    root = tmp_path / "store"
    Store.open(str(root))
    over = threading.Event()
    failed: list[BaseException] = []

    def collecting() -> None:
        objects = LocalObjects(root)
        while not over.is_set():
            collect(objects, Rules(grace=0, keep=2))

    def publishing(name: str) -> None:
        store = Store.open(str(root))
        try:
            for turn in range(25):
                file = PROMPTS[turn % len(PROMPTS)]
                task, _ = store.publish(name, file, verified=False, op_id=f"{name}-{turn}")
                assert store.load(task).data == file.data
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    collector = threading.Thread(target=collecting)
    publishers = [threading.Thread(target=publishing, args=(name,)) for name in ("a", "b", "c")]
    collector.start()
    for thread in publishers:
        thread.start()
    for thread in publishers:
        thread.join()
    over.set()
    collector.join()
    assert not failed
    whole(Store.open(str(root)))


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
