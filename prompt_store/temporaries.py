"""Files that are written before they get their name, and what dead writers leave of them. Knows one folder.

A lock tells the living from the dead: it ends with the process that holds it.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from prompt_store.errors import StoreUnavailable

TEMPORARY = ".tmp"
ATTEMPTS = 8
"""Each is spent only if another process swept the temporary file away between its creation and its lock."""


class Temporaries:
    """Of any number of threads and processes. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made yet, the folder neither."""
        self._folder = folder

    @contextmanager
    def file(self, data: bytes) -> Iterator[Path]:
        """A fsynced file holding `data`, locked so that a sweep leaves it alone, removed at the end."""
        path, file = self._locked()
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
            yield path
        finally:
            with suppress(OSError):
                path.unlink()
            with suppress(OSError):  # it has been fsynced or will not be used: closing it decides nothing
                os.close(file)

    def sweep(self) -> None:
        """Remove temporary files that no living process has locked, whatever their age and whoever made them.

        A disk that is read-only keeps them: nothing that can be done there is in their way.
        """
        with os.scandir(self._folder) as found:
            for entry in found:
                with suppress(FileNotFoundError, BlockingIOError, PermissionError), _where_it_can_be_written():
                    file = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        Path(entry.path).unlink()
                    finally:
                        os.close(file)

    def _locked(self) -> tuple[Path, int]:
        for _ in range(ATTEMPTS):
            path = self._folder / uuid4().hex
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file).st_nlink:
                    return path, file
            except BlockingIOError:
                pass
            except OSError:
                with suppress(OSError):
                    path.unlink()
                os.close(file)
                raise
            os.close(file)
        raise StoreUnavailable("temporary files are swept away as fast as they are made")


@contextmanager
def _where_it_can_be_written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
