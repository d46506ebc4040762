"""Writers at the same time, and answers that were lost: no version is lost, none is made twice."""

import errno
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prompt_store.errors import OutcomeUnknown, PreconditionFailed, StoreUnavailable, TaskDeleted
from prompt_store.objects import Objects
from prompt_store.store import Store
from tests.prompt_store.fakes import Forgetful, Racing, disk
from tests.prompt_store.make import ONE, THREE, TWO, embeddings, put


@pytest.fixture
def racing() -> Racing:
    """A place where a rival may act between looking and writing."""
    return Racing()


def test_two_writers_without_precondition_both_win(racing: Racing) -> None:
    """The second takes the next number; both versions are there (U54)."""
    store = Store(racing)
    racing.rival = lambda: put(store, "a", TWO, "rival")
    task, created = store.publish("a", ONE, verified=False, op_id="mine")
    assert (task.version, task.previous, created) == (2, 1, True)
    assert [version.digest for version in store.versions("a")] == [ONE.digest, TWO.digest]


def test_of_two_writers_with_a_precondition_one_wins(racing: Racing) -> None:
    """The loser is told what stands there now, and has stored no version (R2)."""
    store = Store(racing)
    put(store, "a", ONE)
    racing.rival = lambda: put(store, "a", TWO, "rival", if_match=ONE.digest)
    with pytest.raises(PreconditionFailed) as caught:
        store.publish("a", THREE, verified=False, op_id="mine", if_match=ONE.digest)
    assert caught.value.current == store.current("a")
    assert len(store.versions("a")) == 2


def test_of_two_creators_one_wins(racing: Racing) -> None:
    """If-None-Match: * holds at the moment of writing, not of looking."""
    store = Store(racing)
    racing.rival = lambda: put(store, "a", TWO, "rival")
    with pytest.raises(PreconditionFailed):
        store.publish("a", ONE, verified=False, op_id="mine", if_none_match=True)


def test_the_rival_wrote_the_same(racing: Racing) -> None:
    """When the other writer was first with the same bytes there is nothing left to do."""
    store = Store(racing)
    racing.rival = lambda: put(store, "a", ONE, "rival")
    task, created = store.publish("a", ONE, verified=False, op_id="mine")
    assert (task.op_id, created) == ("rival", False)


def test_a_patch_merges_into_what_came_between(racing: Racing) -> None:
    """A patch without precondition keeps the rival's tensors; with one it is refused."""
    store = Store(racing)
    put(store, "a", ONE)
    racing.rival = lambda: put(store, "a", TWO, "rival")
    task, _ = store.patch("a", {"labels": ["x"]}, op_id="mine")
    assert store.load(task).prompt.tensors == TWO.prompt.tensors
    racing.rival = lambda: put(store, "a", THREE, "rival2")
    with pytest.raises(PreconditionFailed):
        store.patch("a", {"labels": ["y"]}, op_id="other", if_match=task.digest)


def test_a_delete_and_a_publish_both_count(racing: Racing) -> None:
    """A publish that comes between looking and deleting is deleted with the rest; the last version wins."""
    store = Store(racing)
    put(store, "a", ONE)
    racing.rival = lambda: put(store, "a", TWO, "rival")
    assert store.delete("a", "mine").version == 3
    with pytest.raises(TaskDeleted):
        store.current("a")


def test_two_deletes_make_one_tombstone(racing: Racing) -> None:
    """The second delete finds the task deleted."""
    store = Store(racing)
    put(store, "a", ONE)
    racing.rival = lambda: store.delete("a", "rival")
    with pytest.raises(TaskDeleted):
        store.delete("a", "mine")
    assert len(store.versions("a")) == 2


def test_a_lost_answer_is_resolved_by_the_operation_id() -> None:
    """The outcome is unknown, and says under which id; asking again with it finds the one version (O3, promise 3)."""
    place = Forgetful()
    store = Store(place)
    for _ in range(2):
        place.lose = "tasks/"
        with pytest.raises(OutcomeUnknown) as caught:
            store.publish("a", ONE, verified=False, op_id="mine")
        task, created = store.publish("a", ONE, verified=False, op_id=caught.value.op_id)
        assert (task.version, created) == (1, True)
        store = Store(place)
        place.lose = "tasks/"
        with pytest.raises(OutcomeUnknown):
            store.delete("a", "gone")
        assert store.delete("a", "gone").version == 2
        place = Forgetful()
        store = Store(place)


def test_a_blob_that_is_not_confirmed_is_no_version() -> None:
    """Without a blob that is kept for good no manifest is written; the next attempt goes through."""
    place = Forgetful()
    store = Store(place)
    place.lose = "blobs/"
    with pytest.raises(StoreUnavailable):
        store.publish("a", ONE, verified=False, op_id="mine")
    assert list(place.keys("tasks/")) == []
    assert store.publish("a", ONE, verified=False, op_id="mine")[0].version == 1


def test_what_is_acknowledged_again_is_made_safe(tmp_path: Path) -> None:
    """A version that can be seen may not be kept yet: it is fsynced before anyone is told that it stands."""
    store = Store.open(str(tmp_path / "store"))
    store.publish("a", ONE, verified=False, op_id="mine")
    answers: list[Callable[[], object]] = [
        lambda: store.publish("a", ONE, verified=False, op_id="mine"),
        lambda: store.publish("a", ONE, verified=False, op_id="other"),
        lambda: store.patch("a", {}, op_id="new"),
        lambda: store.rollback("a", 1, "roll"),
    ]
    for answer in answers:
        with disk(tmp_path / "store") as made:
            answer()
        assert ("fsync", "tasks/a!") in made.calls


def test_what_cannot_be_made_safe_is_unknown(tmp_path: Path) -> None:
    """When that fsync fails the outcome stays unknown, with the id to ask again (D4)."""
    store = Store.open(str(tmp_path / "store"))
    with disk(tmp_path / "store") as made:
        made.fail = lambda call, path: errno.EIO if (call, path) == ("fsync", "tasks/a!") else 0
        for _ in range(2):
            with pytest.raises(OutcomeUnknown) as caught:
                store.publish("a", ONE, verified=False, op_id="mine")
            assert caught.value.op_id == "mine"
    assert store.publish("a", ONE, verified=False, op_id="mine")[0].version == 1


@pytest.mark.parametrize("writers", [16])
def test_threads_lose_no_version(objects: Objects, writers: int) -> None:
    """Of 16 writers of one task each wins its own number, and every acknowledged version is what it published (R1)."""
    store = Store(objects)
    files = [embeddings(seed=seed) for seed in range(writers)]

    def write(number: int) -> int:
        return store.publish("a", files[number], verified=False, op_id=f"op{number}")[0].version

    with ThreadPoolExecutor(writers) as pool:
        versions = list(pool.map(write, range(writers)))
    assert sorted(versions) == list(range(1, writers + 1))
    for number, version in enumerate(versions):
        assert store.load(store.get("a", version)) == files[number]


def test_of_many_conditional_writers_one_wins(objects: Objects) -> None:
    """Of 16 that all name the same digest exactly one replaces it."""
    store = Store(objects)
    put(store, "a", ONE)

    def write(number: int) -> bool:
        try:
            store.publish("a", embeddings(seed=number), verified=False, op_id=f"op{number}", if_match=ONE.digest)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(write, range(10, 26))) == 1
    assert len(store.versions("a")) == 2


WRITER = """
import sys
from prompt_store.store import Store
from tests.prompt_store.make import embeddings
store = Store.open(sys.argv[1])
for number in range(8):
    task, _ = store.publish("a", embeddings(seed=number), verified=False, op_id=f"{sys.argv[2]}-{number}")
    print(task.version, task.digest)
"""


def test_processes_share_a_directory(tmp_path: Path) -> None:
    """Three processes that start on one new directory and write one task lose nothing between them (P9)."""
    store = str(tmp_path / "store")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, store, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    acknowledged: list[tuple[int, str]] = []
    for writer in writers:
        out, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        acknowledged += [(int(line.split()[0]), line.split()[1]) for line in out.splitlines()]
    made = {task.version: task.digest for task in Store.open(store).versions("a")}
    assert sorted(made) == list(range(1, len(made) + 1))
    assert {made[version] for version, digest in acknowledged if made[version] == digest} == set(made.values())
    assert all(made[version] == digest for version, digest in acknowledged)
