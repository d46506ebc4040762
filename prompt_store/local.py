"""A local directory as a place for objects: what is acknowledged survives a power cut, what is not leaves no trace.

An object is written to a temporary file, fsynced, linked to its name (which fails if the name is taken) and the
directory fsynced; new directories are fsynced into their parents. A marker file tells a store from an empty mount
point. Knows no tasks. Needs hard links and flock: any local file system of Linux or macOS.
"""

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from prompt_store.durable import sync_directory
from prompt_store.errors import StoreFull, StoreRefuses, StoreUnavailable, StoreUnsuitable
from prompt_store.marker import MARKER, MARKER_TEXT
from prompt_store.objects import Entry, Exists, Missing, Unconfirmed, between
from prompt_store.temporaries import TEMPORARY, Temporaries

__all__ = ["ALONE", "TEMPORARY", "LocalObjects"]

ALONE = ".alone"
"""Locked by the one process that collects garbage."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMLINK})
SETTLED = 2.0
"""Seconds. A directory changed later than this before it was listed may change again within the same time stamp."""


class LocalObjects:
    """Objects below `root`. Any number of threads and processes may share it."""

    parallel = 1
    lateness = 0.0

    def __init__(self, root: Path) -> None:
        """Open the store in `root`, or make one where there is nothing; remove what dead writers left behind."""
        self.root = root
        self._temporaries = Temporaries(root / TEMPORARY)
        self._lock = threading.Lock()
        self._durable: set[Path] = set()
        self._listings: dict[str, tuple[int, list[str]]] = {}
        with _translated():
            self._open()
            self._temporaries.sweep()

    def check(self) -> None:
        """Whether the marker stands where it stood: one stat."""
        with _translated():
            self._check_marker()

    def get(self, key: str) -> bytes:
        """Read the whole file: never mapped, as a file cut short under a mapping kills the process.

        A pipe or a folder that somebody has put there is neither an object nor its absence.
        """
        with _translated():
            try:
                # A pipe without a writer is opened, and not waited for.
                file = os.open(self.root / key, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                self._check_marker()
                raise Missing(key) from None
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise StoreUnavailable("something that is no file stands in the place of an object")
                with os.fdopen(file, "rb", closefd=False) as whole:
                    return whole.read()
            finally:
                os.close(file)

    def create(self, key: str, data: bytes) -> None:
        """Write, fsync, link, fsync the directory. Raises Exists, Unconfirmed, StoreFull or StoreUnavailable."""
        path = self.root / key
        with _translated():
            self._check_marker()
            self._make_directory(path.parent)
            with self._temporaries.file(data) as temporary:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    # Its writer may not have come to this line yet, and our caller is going to rely on it.
                    self.confirm(key)
                    raise Exists(key) from None
                try:
                    sync_directory(path.parent)
                except OSError:
                    # A failed fsync is not repeated: the kernel may have dropped the pages and would report success.
                    raise Unconfirmed(key) from None

    def replace(self, key: str, data: bytes) -> None:
        """Put whole bytes in the place of damaged ones, in one step."""
        path = self.root / key
        with _translated(), self._temporaries.file(data) as temporary:
            temporary.replace(path)
            sync_directory(path.parent)

    def confirm(self, key: str) -> None:
        """Fsync the directories from the object up to the root."""
        with _translated():
            for folder in Path(key).parents:
                sync_directory(self.root / folder)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """All objects of one folder and those below it, read folder by folder."""
        for key in self._names(prefix):
            if not key.endswith("/"):
                yield from (key,) if key > after else ()
            elif key > after or after.startswith(key):
                yield from self.keys(key, after)

    def folders(self, prefix: str, above: str = "", below: str = "", *, descending: bool = False) -> Iterator[str]:
        """By bisection: a page costs no scan once the names are known."""
        return between(self._folders(prefix), above, below, descending=descending)

    def _folders(self, prefix: str) -> Sequence[str]:
        """One directory's names, remembered until its time stamp moves."""
        with _translated():
            try:
                changed = (self.root / prefix).stat().st_mtime_ns
                with self._lock:
                    remembered = self._listings.get(prefix)
                if remembered is not None and remembered[0] == changed:
                    return remembered[1]
                with os.scandir(self.root / prefix) as found:
                    names = sorted(entry.name for entry in found if entry.is_dir())
            except FileNotFoundError:
                self._check_marker()
                return []
            if time.time() - changed / 1e9 > SETTLED:
                with self._lock:
                    self._listings[prefix] = (changed, names)
            return names

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Folder by folder; what goes away meanwhile is left out."""
        for key in self._names(prefix):
            if key.endswith("/"):
                yield from self.entries(key)
            elif (found := self._stat(key)) is not None:
                yield Entry(key, found.st_size, found.st_mtime)

    def has(self, key: str) -> bool:
        """One stat."""
        if self._stat(key) is not None:
            return True
        with _translated():
            self._check_marker()
        return False

    def move(self, key: str, to: str) -> None:
        """Touch, link, fsync the directory, unlink, fsync the directory. Raises Missing, Exists, StoreUnavailable.

        Touched first: whoever sees the second name sees the time of the move.
        """
        old, new = self.root / key, self.root / to
        with _translated():
            self._check_marker()
            self._make_directory(new.parent)
            try:
                os.utime(old)
                os.link(old, new)
            except FileExistsError:
                if self.get(key) != self.get(to):
                    raise Exists(to) from None
            except (FileNotFoundError, NotADirectoryError):
                raise Missing(key) from None
            sync_directory(new.parent)
            with suppress(FileNotFoundError):
                old.unlink()
            sync_directory(old.parent)

    def remove(self, key: str) -> None:
        """Unlink, fsync the directory: an unlink alone may come back after a power cut."""
        path = self.root / key
        with _translated():
            self._check_marker()
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            sync_directory(path.parent)

    def now(self) -> float:
        """When a file that is written now counts as modified: the file system's clock, which need not be ours."""
        with _translated(), self._temporaries.file(b"") as temporary:
            return temporary.stat().st_mtime

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else is in here, on this machine or, where the file system has locks, on another. It ends with us."""
        with _translated():
            self._check_marker()
            file = os.open(self.root / ALONE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with _translated():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StoreUnavailable("another process is collecting garbage in this store") from None
            yield
        finally:
            with suppress(OSError):  # nothing was written to it
                os.close(file)

    def _stat(self, key: str) -> os.stat_result | None:
        with _translated():
            try:
                return (self.root / key).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _open(self) -> None:
        """The marker is made once, in a directory that holds nothing else, and demanded ever after."""
        is_new = not (self.root / MARKER).exists()
        if is_new:
            _make_directories(self.root)
            names = {path.name for path in self.root.iterdir() if not path.name.startswith(".")} - {"lost+found"}
            if names and MARKER not in names:
                raise StoreUnsuitable(f"the directory holds {len(names)} names but no {MARKER}: not a store")
        (self.root / TEMPORARY).mkdir(exist_ok=True)
        if is_new:
            with suppress(FileExistsError), self._temporaries.file(MARKER_TEXT) as temporary:
                os.link(temporary, self.root / MARKER)
            sync_directory(self.root)
        if (self.root / MARKER).read_bytes() != MARKER_TEXT:
            raise StoreUnsuitable("the store is of another format than this server reads")

    def _names(self, prefix: str) -> list[str]:
        """Keys directly in a folder, sub-folders with their slash: so they sort as the keys below them do."""
        with _translated():
            try:
                with os.scandir(self.root / prefix) as found:
                    return sorted(prefix + entry.name + "/" * entry.is_dir() for entry in found)
            except FileNotFoundError:
                self._check_marker()
                return []

    def _check_marker(self) -> None:
        """An empty mount point is not an empty store.

        Read, not looked up: what a disk that has failed still says of names comes from the kernel's memory.
        """
        try:
            if (self.root / MARKER).read_bytes() != MARKER_TEXT:
                raise StoreUnavailable("something else stands in the place of the store's marker")
        except FileNotFoundError:
            raise StoreUnavailable("the directory of the store has lost its marker: unmounted or removed") from None

    def _make_directory(self, folder: Path) -> None:
        """Make `folder` and its parents, each fsynced into its own parent once per process."""
        if folder == self.root or folder in self._durable:
            return
        self._make_directory(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        sync_directory(folder.parent)
        with self._lock:
            self._durable.add(folder)


def _make_directories(folder: Path) -> None:
    """Like mkdir -p, each new directory fsynced into its parent."""
    if folder.is_dir():
        return
    _make_directories(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)


@contextmanager
def _translated() -> Iterator[None]:
    """Faults of the system in the words of the store, without paths."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreFull("the store has no space left, or no inodes") from error
        kind = StoreRefuses if error.errno == errno.EROFS else StoreUnavailable
        raise kind(f"the store cannot be used: {error.strerror or 'unknown'}") from error
