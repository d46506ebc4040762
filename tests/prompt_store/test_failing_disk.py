"""What the directory makes of a failing disk: a typed error, no trace, and no promise that was not kept."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prompt_store.errors import StoreFull, StoreUnavailable
from prompt_store.local import TEMPORARY, LocalObjects
from prompt_store.objects import Missing, Unconfirmed
from tests.prompt_store.fakes import disk


def opened(folder: Path) -> LocalObjects:
    """A store in a folder of its own."""
    return LocalObjects(folder / "store")


def temporaries(folder: Path) -> list[Path]:
    """What writers have left behind."""
    return list((folder / "store" / TEMPORARY).iterdir())


def open_files() -> int:
    """How many files this process holds open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


FULL = {errno.ENOSPC, errno.EDQUOT}
CODES = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.EACCES, errno.EROFS]


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "link", "mkdir"])
def test_failing_disk(tmp_path: Path, call: str, code: int) -> None:
    """Before the link every fault is a typed error and no trace; the next attempt succeeds (D1-D5)."""
    objects = opened(tmp_path)
    files = open_files()
    with disk(tmp_path / "store") as made:
        made.fail = lambda name, _path: code if name == call else 0
        with pytest.raises(StoreFull if code in FULL else StoreUnavailable):
            objects.create("tasks/a!/1.json", b"x")
    assert open_files() == files
    assert temporaries(tmp_path) == []
    with pytest.raises(Missing):
        objects.get("tasks/a!/1.json")
    objects.create("tasks/a!/1.json", b"x")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.__getitem__)
def test_failing_fsync_of_the_directory_is_not_an_answer(tmp_path: Path, code: int) -> None:
    """After the link the outcome is unknown, whatever the fault, and that fsync is not tried again (D4)."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"x")
    with disk(tmp_path / "store") as made:
        made.fail = lambda call, path: code if (call, path) == ("fsync", "blobs") else 0
        with pytest.raises(Unconfirmed):
            objects.create("blobs/b", b"x")
    assert made.calls.count(("fsync", "blobs")) == 1
    assert temporaries(tmp_path) == []


def test_failing_fsync_of_the_file_is_not_repeated(tmp_path: Path) -> None:
    """After EIO the kernel may report success for lost pages: a new attempt writes a new file (D3)."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"x")
    with disk(tmp_path / "store") as made:
        made.fail = lambda call, path: errno.EIO if call == "fsync" and path.startswith(TEMPORARY) else 0
        with pytest.raises(StoreUnavailable):
            objects.create("blobs/b", b"x")
    assert sum(call == "fsync" for call, _ in made.calls) == 1


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A real limit of the kernel's: what a quota looks like to a process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_quota_of_the_kernel(tmp_path: Path) -> None:
    """A file over the size limit is StoreFull, a part of it is not kept, and reads go on (D10)."""
    objects = opened(tmp_path)
    objects.create("blobs/a", b"x")
    with file_size_limit(1000):
        with pytest.raises(StoreFull):
            objects.create("blobs/b", b"x" * 2000)
        assert objects.get("blobs/a") == b"x"
    assert temporaries(tmp_path) == []
    objects.create("blobs/b", b"x" * 2000)


def test_unreadable_object_is_not_missing(tmp_path: Path) -> None:
    """A path that cannot be read is unavailable: only an absent one is Missing."""
    objects = opened(tmp_path)
    (tmp_path / "store" / "blobs" / "a").mkdir(parents=True)
    with pytest.raises(StoreUnavailable):
        objects.get("blobs/a")
