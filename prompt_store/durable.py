"""A file replaced whole or not at all, and on disk before anybody is told. Knows bytes and paths only."""

import os
from contextlib import suppress
from pathlib import Path

FRESH = ".fresh"
"""Ends the name of what is being written: a kill may leave one, which the next write of that file replaces."""


def replace_file(path: Path, data: bytes) -> None:
    """By one rename, once the bytes are on disk. Leaves nothing behind where it cannot. Raises OSError."""
    fresh = path.with_name(f".{path.name}{FRESH}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    """Its names are on disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
