"""Records of jobs and files on disk: whole or not at all, and gone on from after a kill.

One process at a time owns a folder. Knows bytes and JSON; not what a record means.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from prompt_store.durable import replace_file
from server.telemetry import logger

LOCK = "lock"


Record = TypeVar("Record")


class InUseError(Exception):
    """Another process has the folder."""


def own(folder: Path) -> TextIO:
    """The folder, made if absent, is this process's until what is returned is closed. Raises InUseError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    held = (folder / LOCK).open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise InUseError("another server has these jobs") from None
    return held


def write_json(path: Path, value: Any) -> None:
    replace_file(path, json.dumps(value, ensure_ascii=False).encode())


def read(path: Path, kind: TypeAdapter[Record]) -> Record | None:
    """None for what is no such record: somebody else damaged it; it is left out and left alone. Raises OSError."""
    try:
        return kind.validate_json(path.read_bytes(), strict=True)
    except ValidationError:
        logger().warning("a record is damaged and left out", kind=path.suffix)
        return None


def append(path: Path, value: Any) -> None:
    """One line more. A line that a kill cut short is passed over when read, and ended before the next."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            file.write(b"" if file.read(1) == b"\n" else b"\n")
        file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")


def lines(path: Path) -> Iterator[Any]:
    """What was appended, in order."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with suppress(ValueError, RecursionError):
                yield json.loads(line)
