"""The directory: the order of its fsyncs, its marker, its sweep, and what it makes of a failing disk."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prompt_store.errors import StoreError, StoreUnavailable
from prompt_store.local import TEMPORARY, LocalObjects
from prompt_store.marker import MARKER
from prompt_store.objects import Exists
from tests.prompt_store.fakes import Disk, disk, locked


def opened(folder: Path) -> LocalObjects:
    """A store in a folder of its own."""
    return LocalObjects(folder / "store")


def temporaries(folder: Path) -> list[Path]:
    """What writers have left behind."""
    return list((folder / "store" / TEMPORARY).iterdir())


def open_files() -> int:
    """How many files this process holds open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def changes(made: Disk) -> list[tuple[str, str]]:
    """What was asked of the disk, without the opening of folders to fsync them."""
    return [one for one in made.calls if one[0] != "open"]


def assert_durable(made: Disk, keys: list[str]) -> None:
    """Each file was fsynced after its last write and before its link; each new name was fsynced into its directory."""
    for key in keys:
        at = made.calls.index(("link", key))
        written = max(n for n in range(at) if made.calls[n][0] == "write")
        name = made.calls[written][1]
        assert ("fsync", name) in made.calls[written:at]
        assert ("fsync", str(Path(key).parent)) in made.calls[at:]
    for number, (call, path) in enumerate(made.calls):
        if call == "mkdir":
            assert ("fsync", str(Path(path).parent)) in made.calls[number:]


def test_acknowledged_means_on_the_disk(tmp_path: Path) -> None:
    """A create in new folders fsyncs file, folder and every new parent, as a power cut demands (W1, W4)."""
    objects = opened(tmp_path)
    with disk(tmp_path / "store") as made:
        objects.create("tasks/a!/1.json", b"x" * 10)
        objects.create("blobs/b", b"y")
    assert_durable(made, ["tasks/a!/1.json", "blobs/b"])
    assert ("mkdir", "tasks/a!") in made.calls


def test_new_store_is_on_the_disk(tmp_path: Path) -> None:
    """The root, its parents and the marker are fsynced when a store is made."""
    with disk(tmp_path) as made:
        LocalObjects(tmp_path / "a" / "b")
    assert ("mkdir", "a") in made.calls
    assert ("fsync", ".") in made.calls
    assert ("fsync", "a") in made.calls
    assert_durable(made, [f"a/b/{MARKER}"])


def test_folder_of_another_writer_is_fsynced(tmp_path: Path) -> None:
    """A folder that another process has made, and perhaps not fsynced, is fsynced into its parent before an answer."""
    first, second = opened(tmp_path), opened(tmp_path)
    first.create("tasks/a!/1.json", b"")
    with disk(tmp_path / "store") as made:
        second.create("tasks/a!/2.json", b"")
    assert ("fsync", "tasks") in made.calls
    assert ("fsync", ".") in made.calls


def test_existing_object_is_fsynced_before_it_is_relied_upon(tmp_path: Path) -> None:
    """Exists means kept: its writer may have died between link and fsync."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"")
    with disk(tmp_path / "store") as made, pytest.raises(Exists):
        objects.create("blobs/a", b"")
    failed = next(n for n, (call, _) in enumerate(made.calls) if call == "link")
    assert ("fsync", "blobs") in made.calls[failed:]


def test_confirm_fsyncs_up_to_the_root(tmp_path: Path) -> None:
    """An object that can be seen is made safe with every folder above it."""
    objects = opened(tmp_path)
    objects.create("tasks/a!/1.json", b"")
    with disk(tmp_path / "store") as made:
        objects.confirm("tasks/a!/1.json")
    assert [path for call, path in made.calls if call == "fsync"] == ["tasks/a!", "tasks", "."]


def test_mended_object_is_on_the_disk(tmp_path: Path) -> None:
    """replace fsyncs the new bytes before they take the name, and the folder afterwards."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"x")
    with disk(tmp_path / "store") as made:
        objects.replace("blobs/a", b"y")
    synced = [path for call, path in made.calls if call == "fsync"]
    assert synced[0].startswith(TEMPORARY)
    assert synced[1:] == ["blobs"]
    assert temporaries(tmp_path) == []


def test_a_move_is_on_the_disk_before_the_first_name_goes(tmp_path: Path) -> None:
    """The second name is fsynced, in a folder that is, before the first is taken away; then that is fsynced (W5)."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"x")
    with disk(tmp_path / "store") as made:
        objects.move("blobs/a", "trash/a")
    calls = [("mkdir", "trash"), ("fsync", "."), ("link", "trash/a"), ("fsync", "trash")]
    assert changes(made) == [*calls, ("unlink", "blobs/a"), ("fsync", "blobs")]


def test_a_removal_is_on_the_disk(tmp_path: Path) -> None:
    """An unlink alone comes back after a power cut."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"x")
    with disk(tmp_path / "store") as made:
        objects.remove("blobs/a")
    assert changes(made) == [("unlink", "blobs/a"), ("fsync", "blobs")]


def test_marker_tells_a_store_from_an_empty_mount_point(tmp_path: Path) -> None:
    """Without its marker nothing is absent: reads, listings and writes are unavailable (C10)."""
    objects = opened(tmp_path)
    objects.create("tasks/a!/1.json", b"")
    (tmp_path / "store").rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            objects.get("tasks/a!/1.json")
        with pytest.raises(StoreUnavailable):
            list(objects.keys("tasks/"))
        with pytest.raises(StoreUnavailable):
            list(objects.entries("tasks/"))
        with pytest.raises(StoreUnavailable):
            objects.has("tasks/a!/1.json")
        with pytest.raises(StoreUnavailable):
            objects.move("tasks/a!/1.json", "trash/1")
        with pytest.raises(StoreUnavailable):
            objects.remove("tasks/a!/1.json")
        with pytest.raises(StoreUnavailable):
            list(objects.folders("tasks/"))
        with pytest.raises(StoreUnavailable):
            objects.create("tasks/a!/2.json", b"")
        with pytest.raises(StoreUnavailable):
            objects.create("unseen/b", b"")
        # The second round: the mount point is there, and empty.
        (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "store").rmdir()
    (tmp_path / "away").rename(tmp_path / "store")
    assert objects.get("tasks/a!/1.json") == b""


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    """A directory with other things in it is not made a store, and nothing is added to it."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("")
    with pytest.raises(StoreUnavailable, match="not a store"):
        opened(tmp_path)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", [".hidden", "lost+found", TEMPORARY])
def test_a_fresh_file_system_becomes_a_store(tmp_path: Path, name: str) -> None:
    """What a file system or a killed first start leaves in an empty directory does not matter."""
    (tmp_path / "store" / name).mkdir(parents=True)
    opened(tmp_path).create("a/b", b"x")
    assert opened(tmp_path).get("a/b") == b"x"


def test_newer_store_is_refused(tmp_path: Path) -> None:
    """A marker of another format is not opened (X7)."""
    opened(tmp_path)
    (tmp_path / "store" / MARKER).write_bytes(b'{"format":2}\n')
    with pytest.raises(StoreUnavailable, match="format"):
        opened(tmp_path)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """A location that is a file, or lies below one, is unavailable, without a traceback of the system."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreUnavailable):
            LocalObjects(path)


def test_start_sweeps_what_the_dead_left(tmp_path: Path) -> None:
    """Temporary files without a living writer go at the start; those that one holds stay (P1, X8)."""
    opened(tmp_path)
    for number in range(100):
        (tmp_path / "store" / TEMPORARY / str(number)).write_bytes(b"half")
    with locked(tmp_path / "store" / TEMPORARY / "living"):
        opened(tmp_path)
        assert [path.name for path in temporaries(tmp_path)] == ["living"]
    opened(tmp_path)
    assert temporaries(tmp_path) == []


def test_sweep_between_creation_and_lock_costs_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file that another process's start sweeps before it is locked is made anew."""
    objects = opened(tmp_path)
    real = os.open
    swept: list[str | Path] = []

    def open_and_sweep(path: str | Path, *rest: int) -> int:
        file = real(path, *rest)
        if TEMPORARY in str(path) and not swept:
            swept.append(path)
            Path(path).unlink()
        return file

    monkeypatch.setattr(os, "open", open_and_sweep)
    objects.create("a/b", b"x")
    assert objects.get("a/b") == b"x"
    assert swept


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Created, refused or failed, no temporary file remains."""
    objects = opened(tmp_path)
    objects.create("a/b", b"x")
    with pytest.raises(Exists):
        objects.create("a/b", b"x")
    assert temporaries(tmp_path) == []


def test_errors_hold_no_paths(tmp_path: Path) -> None:
    """What reaches an answer names the fault, not the place."""
    with pytest.raises(StoreError) as caught:
        opened(tmp_path).get("x" * 300)
    assert "x" * 10 not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_page_costs_no_scan_once_the_names_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are scanned once per change of the folder: a settled one is remembered, an added name seen at once."""
    objects = opened(tmp_path)
    for name in ("b", "a"):
        objects.create(f"tasks/{name}!/1.json", b"")
    scans: list[Path] = []
    real = os.scandir

    def scandir(path: Path) -> "os._ScandirIterator[str]":
        scans.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for _ in range(2):
        assert list(objects.folders("tasks/")) == ["a!", "b!"]
    assert len(scans) == 2, "a folder changed a moment ago may change again within one time stamp"
    long_ago = time.time_ns() - 60 * 10**9
    os.utime(tmp_path / "store" / "tasks", ns=(long_ago, long_ago))
    for _ in range(5):
        assert list(objects.folders("tasks/")) == ["a!", "b!"]
    assert len(scans) == 3
    objects.create("tasks/c!/1.json", b"")
    assert list(objects.folders("tasks/")) == ["a!", "b!", "c!"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe that nobody writes into, a folder: neither an object nor its absence."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"a")
    make(tmp_path / "store" / "blobs" / "b")
    with pytest.raises(StoreUnavailable, match="no file"):
        objects.get("blobs/b")
    assert objects.get("blobs/a") == b"a"
