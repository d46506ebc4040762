"""Checking a store: what is found, what is told to do, and what is mended without guessing."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from prompt_store.check import Checked, check
from prompt_store.errors import StoreUnavailable
from prompt_store.keys import blob_key, manifest_key, trash_key
from prompt_store.objects import MemoryObjects, Objects
from prompt_store.prompt import digest_of
from prompt_store.store import Store
from tests.fakes import FailingObjects
from tests.prompt_store.make import ONE, THREE, TWO, embeddings, put


@pytest.fixture
def full(store: Store) -> Store:
    """Two tasks, four versions and a tombstone, three files."""
    for file in (ONE, TWO, ONE):
        put(store, "a", file)
    put(store, "b", THREE)
    store.delete("b", "d")
    return store


def hurt(checked: Checked) -> list[tuple[str | None, int | None]]:
    """Where damage is left."""
    return [(one.task, one.version) for one in checked.found if one.damage]


def test_a_whole_store_has_nothing_to_tell(full: Store) -> None:
    """Counts, and no finding."""
    checked = check(full.objects)
    size = sum(len(file.data) for file in (ONE, TWO, THREE))
    assert checked == Checked(tasks=2, versions=5, files=3, bytes=size, found=[])


def test_damage_is_told_with_the_way_back(full: Store) -> None:
    """Each version that names a damaged file; the current one with a version to roll back to, the others without."""
    full.objects.replace(blob_key(ONE.digest), ONE.data[:-1] + b"x")
    full.objects.remove(blob_key(THREE.digest))
    checked = check(full.objects)
    assert hurt(checked) == [("a", 1), ("a", 3), ("b", 1)]
    first, third, other = (one.advice or "" for one in checked.found)
    assert "rollback" not in first
    assert "or softprompt rollback a 2" in third
    assert ONE.digest in third
    assert "fsck --repair --from" in other
    assert [one.said for one in checked.found][1:] == [
        "its file is damaged: the bytes are not those that its digest names",
        "its file is missing",
    ]


def test_damaged_manifests_and_holes_are_told(full: Store) -> None:
    """Garbage, another task's manifest, and a version that is not there though a later one is."""
    full.objects.replace(manifest_key("a", 3), b"garbage")
    full.objects.replace(manifest_key("b", 1), full.objects.get(manifest_key("a", 1)))
    full.objects.remove(manifest_key("a", 2))
    checked = check(full.objects)
    assert hurt(checked) == [("a", 3), ("a", 2), ("b", 1)]
    assert "or softprompt rollback a 1" in (checked.found[0].advice or "")
    assert manifest_key("a", 2) in (checked.found[1].advice or "")


def test_versions_that_were_let_go_are_no_hole(full: Store) -> None:
    """A history may begin anywhere."""
    full.objects.remove(manifest_key("a", 1))
    assert hurt(check(full.objects)) == []


def test_names_that_are_none_and_orphans_are_facts(full: Store) -> None:
    """Told, left alone, and no damage."""
    for key in ("blobs/readme.txt", "tasks/a!/note", "tasks/base!/00000001.json"):
        full.objects.create(key, b"x")
    other = embeddings(seed=9)
    full.objects.create(blob_key(other.digest), other.data)
    for _ in range(2):
        checked = check(full.objects, repair=True)
        assert (len(checked.found), checked.damage) == (4, 0)
        assert any("softprompt gc" in (one.advice or "") for one in checked.found)


def test_a_file_of_another_form_is_told_and_never_replaced(store: Store) -> None:
    """Its bytes are what the name says: there is nothing better to put there."""
    strange = b"a form of next year"
    odd = replace(ONE, data=strange, digest=digest_of(strange))
    put(store, "a", TWO)
    put(store, "a", odd)
    checked = check(store.objects, repair=True, source=store.objects)
    assert hurt(checked) == [("a", 2)]
    assert "the newer program that wrote it, or softprompt rollback a 1" in (checked.found[0].advice or "")
    assert store.objects.get(blob_key(odd.digest)) == strange


def test_what_is_in_the_trash_alone_comes_back(full: Store) -> None:
    """Told first; brought back on request, and then there is nothing to tell."""
    full.objects.move(blob_key(TWO.digest), trash_key(TWO.digest))
    assert hurt(check(full.objects)) == [("a", 2)]
    assert full.objects.has(trash_key(TWO.digest))
    checked = check(full.objects, repair=True)
    assert ([one.mended for one in checked.found], checked.damage) == ([True], 0)
    assert (full.objects.has(trash_key(TWO.digest)), full.objects.get(blob_key(TWO.digest))) == (False, TWO.data)
    assert check(full.objects).found == []


def test_the_trash_and_a_backup_mend_what_is_damaged(full: Store) -> None:
    """Bytes are taken only if their digest is the name's, from wherever they are."""
    backup = MemoryObjects()
    backup.create(blob_key(TWO.digest), TWO.data)
    backup.create(blob_key(THREE.digest), b"damaged there too")
    backup.create(trash_key(THREE.digest), THREE.data)
    full.objects.replace(blob_key(ONE.digest), b"damaged")
    full.objects.create(trash_key(ONE.digest), ONE.data)
    full.objects.remove(blob_key(TWO.digest))
    full.objects.replace(blob_key(THREE.digest), b"")
    assert check(full.objects, source=backup).damage == 4, "nothing is mended unasked"
    assert hurt(check(full.objects, repair=True)) == [("a", 2), ("b", 1)]
    checked = check(full.objects, repair=True, source=backup)
    assert ([one.mended for one in checked.found], checked.damage) == ([True, True], 0)
    for file in (ONE, TWO, THREE):
        assert full.objects.get(blob_key(file.digest)) == file.data


def test_a_backup_that_is_damaged_mends_nothing(full: Store) -> None:
    """The right name is not enough."""
    backup = MemoryObjects()
    backup.create(blob_key(ONE.digest), TWO.data)
    full.objects.remove(blob_key(ONE.digest))
    assert hurt(check(full.objects, repair=True, source=backup)) == [("a", 1), ("a", 3)]
    assert not full.objects.has(blob_key(ONE.digest))


def test_manifests_are_never_touched(full: Store) -> None:
    """Whatever is wrong with them, and whatever a backup holds."""
    backup = MemoryObjects()
    for entry in full.objects.entries("tasks/"):
        backup.create(entry.key, full.objects.get(entry.key))
    full.objects.replace(manifest_key("a", 2), b"garbage")
    check(full.objects, repair=True, source=backup)
    assert full.objects.get(manifest_key("a", 2)) == b"garbage"
    assert [task.version for task in full.versions("a")] == [3, 1]


@pytest.mark.parametrize("which", ["store", "backup"])
def test_a_place_that_is_down_is_no_damage(which: str) -> None:
    """Nothing is called missing because nobody answered."""
    store, backup = FailingObjects(), FailingObjects()
    put(Store(store), "a", ONE)
    store.remove(blob_key(ONE.digest))
    (store if which == "store" else backup).down = True
    with pytest.raises(StoreUnavailable):
        check(store, repair=True, source=backup)


def test_a_store_that_is_written_meanwhile_is_whole(tmp_path: Path) -> None:
    """Publishers beside checks: no version is called damaged that is not."""
    root = str(tmp_path / "store")
    Store.open(root)
    over = threading.Event()

    def publishing() -> None:
        store, number = Store.open(root), 0
        while not over.is_set():
            number += 1
            store.publish("a", embeddings(seed=number), verified=False, op_id=str(number))

    thread = threading.Thread(target=publishing)
    thread.start()
    try:
        objects: Objects = Store.open(root).objects
        for _ in range(20):
            assert check(objects).damage == 0
    finally:
        over.set()
        thread.join()
