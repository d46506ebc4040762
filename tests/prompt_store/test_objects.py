"""What every place for objects promises, in memory and on disk alike."""

import threading

import pytest

from prompt_store.objects import Exists, Missing, Objects


def test_objects_are_kept_whole(objects: Objects) -> None:
    """What was created is read back, empty or large."""
    for key, data in (("a/b", b""), ("a/c", b"x" * 3_000_000)):
        objects.create(key, data)
        assert objects.get(key) == data
        objects.confirm(key)


def test_objects_are_created_once(objects: Objects) -> None:
    """A second create is refused and changes nothing."""
    objects.create("a/b", b"first")
    with pytest.raises(Exists):
        objects.create("a/b", b"second")
    assert objects.get("a/b") == b"first"


def test_missing_objects(objects: Objects) -> None:
    """An absent object, also in an absent folder, or below an object, is Missing."""
    objects.create("a/b", b"")
    for key in ("a/x", "x/y", "a/b/c"):
        with pytest.raises(Missing):
            objects.get(key)


def test_damaged_objects_are_mended(objects: Objects) -> None:
    """replace puts other bytes under a key."""
    objects.create("a/b", b"damaged")
    objects.replace("a/b", b"whole")
    assert objects.get("a/b") == b"whole"


def test_keys_are_in_order(objects: Objects) -> None:
    """Keys come in ASCII order of the whole key, folders among files, from after any of them on."""
    keys = sorted(["t/a!/1", "t/a!/2", "t/a-b!/1", "t/a.b", "t/a/x", "t/b!/1", "t/a0!/1", "u/x"])
    for key in keys:
        objects.create(key, b"")
    below = [key for key in keys if key.startswith("t/")]
    assert list(objects.keys("t/")) == below
    for after in [*below, "t/a!", "t/a!/", "t/a!/11", "t/zz", "t/"]:
        assert list(objects.keys("t/", after)) == [key for key in below if key > after]
    assert list(objects.keys("nothing/")) == []


def test_folders_are_in_order(objects: Objects) -> None:
    """The folders of a folder, each once, without its files; new ones are seen at once."""
    assert list(objects.folders("t/")) == []
    for key in ("t/b!/1", "t/a!/1", "t/a!/2", "t/a-b!/1", "t/file", "u/x"):
        objects.create(key, b"")
    assert list(objects.folders("t/")) == ["a!", "a-b!", "b!"]
    objects.create("t/0!/1", b"")
    assert list(objects.folders("t/")) == ["0!", "a!", "a-b!", "b!"]


def test_one_of_many_writers_wins(objects: Objects) -> None:
    """Of 16 threads that create one key exactly one succeeds, and its bytes are what stands there."""
    won: list[int] = []
    start = threading.Barrier(16)

    def write(number: int) -> None:
        start.wait()
        try:
            objects.create("a/b", str(number).encode())
        except Exists:
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in won] == [objects.get("a/b")]


def test_entries_are_what_keys_are_with_sizes_and_times(objects: Objects) -> None:
    """In the order of the keys, read by no one; times and `now` are readings of one clock."""
    keys = sorted(["t/a!/1", "t/a!/2", "t/a-b!/1", "t/a.b", "t/a/x", "u/x"])
    before = objects.now()
    for size, key in enumerate(keys):
        objects.create(key, b"x" * size)
    found = list(objects.entries("t/"))
    assert [entry.key for entry in found] == list(objects.keys("t/"))
    assert [entry.bytes for entry in found] == list(range(len(found)))
    assert all(before - 1 <= entry.modified <= objects.now() + 1 for entry in found)
    assert list(objects.entries("nothing/")) == []


def test_a_place_says_what_it_has(objects: Objects) -> None:
    """Of an object, of none, of none in no folder and below an object."""
    objects.create("a/b", b"")
    assert objects.has("a/b")
    assert not any(objects.has(key) for key in ("a/x", "x/y", "a/b/c"))


def test_an_object_moves_and_is_as_young_as_its_move(objects: Objects) -> None:
    """The bytes under the other key alone, modified now; what is not there is Missing, what is other is kept."""
    objects.create("a/b", b"x")
    before = objects.now()
    objects.move("a/b", "c/d")
    assert (objects.has("a/b"), objects.get("c/d")) == (False, b"x")
    assert next(objects.entries("c/")).modified >= before - 1
    with pytest.raises(Missing):
        objects.move("a/b", "c/d")
    objects.create("a/b", b"x")
    objects.move("a/b", "c/d")
    assert (objects.has("a/b"), objects.get("c/d")) == (False, b"x")
    objects.create("a/b", b"other")
    with pytest.raises(Exists):
        objects.move("a/b", "c/d")
    assert (objects.get("a/b"), objects.get("c/d")) == (b"other", b"x")


def test_what_is_removed_is_gone(objects: Objects) -> None:
    """And may be removed again, or never have been; the key may be used again."""
    objects.create("a/b", b"x")
    for _ in range(2):
        objects.remove("a/b")
        assert not objects.has("a/b")
    objects.remove("no/such")
    objects.create("a/b", b"y")
    assert objects.get("a/b") == b"y"
