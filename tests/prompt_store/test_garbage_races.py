"""Publishers and collections at once, call by call and thread by thread: an acknowledged version keeps its file."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_store.errors import Corrupt, VersionNotFound
from prompt_store.garbage import collect
from prompt_store.keys import blob_key, trash_key
from prompt_store.local import LocalObjects
from prompt_store.objects import Objects
from prompt_store.retention import Rules
from prompt_store.store import Store
from tests.prompt_store.fakes import Clocked
from tests.prompt_store.make import ONE, TWO, embeddings, orphan, put, whole
from tests.prompt_store.turns import Turns

AT_ONCE = Rules(grace=0)
PROMPTS = [embeddings(seed=seed) for seed in range(10, 14)]


def publisher(objects: Objects) -> None:
    """Relies on a file that stands there already and that no version names."""
    Store(objects).publish("p", ONE, verified=False, op_id="p")


def restorer(objects: Objects) -> None:
    """Relies on the file of a version that may go meanwhile."""
    Store(objects).rollback("a", 1, "r")


def retaining(objects: Objects) -> None:
    """Takes the version that `restorer` wants, and its file."""
    for _ in range(2):
        collect(objects, Rules(grace=0, keep=1))


def collector(objects: Objects, times: int = 2) -> None:
    """Moves, and another time removes: a publisher that stands still meanwhile finds neither file nor trash."""
    for _ in range(times):
        collect(objects, AT_ONCE)


def schedules(first: tuple[str, int], second: tuple[str, int]) -> Iterator[list[str]]:
    """So many calls of the one, so many of the other, then the first to its end: every way of it."""
    for before in range(first[1]):
        for between in range(second[1]):
            yield [first[0]] * before + [second[0]] * between + [first[0]] * 1000


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("places", [(blob_key,), (trash_key,), (blob_key, trash_key)], ids=["place", "trash", "both"])
def test_a_publisher_and_collections_call_by_call(places: Sequence[Callable[[str], str]], times: int) -> None:
    """Wherever one interrupts the other, an acknowledged version has its file in place afterwards, and keeps it."""
    calls = (("publisher", 12), ("collector", 12 * times))
    for order in [*schedules(*calls), *schedules(*calls[::-1])]:
        objects = Clocked()
        for key in places:
            objects.create(key(ONE.digest), ONE.data)
        Turns(objects, order).run(publisher=publisher, collector=partial(collector, times=times))
        store = Store(objects)
        assert store.load(store.current("p")).data == ONE.data, order[:40]
        assert objects.has(blob_key(ONE.digest)), order[:40]
        collector(objects)
        assert store.load(store.current("p")).data == ONE.data, order[:40]
        assert objects.has(blob_key(ONE.digest))


def test_a_rollback_and_a_retention_call_by_call() -> None:
    """A version whose source is taken away meanwhile has its content all the same."""
    for order in [*schedules(("restorer", 12), ("collector", 24)), *schedules(("collector", 24), ("restorer", 12))]:
        objects = Clocked()
        put(Store(objects), "a", ONE)
        put(Store(objects), "a", TWO)
        try:
            Turns(objects, order).run(restorer=restorer, collector=retaining)
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
