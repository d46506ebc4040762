"""Uploaded files: training data that came in, results that go out.

A file is its bytes, `<id>.jsonl` or `<id>.csv`, and a record beside them. Names that clients gave are shown and never
used as paths. Knows no rows.
"""

import re
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter

from prompt_store.durable import FRESH, replace_file
from server.errors import Full, Missing
from server.jobs import disk

MAX_FILES = 1000
RECORD = ".json"
OURS = re.compile(r"file-[0-9a-f]{24}\.(csv|jsonl)")
OURS_RECORD = re.compile(r"file-[0-9a-f]{24}\.json")
TRAINING, RESULTS = "fine-tune", "fine-tune-results"


@dataclass(frozen=True, slots=True)
class File:
    """`created`: seconds since 1970; `operation`: the id of the upload that made it, `digest` of what it held."""

    id: str
    bytes: int
    created: float
    filename: str
    purpose: str
    suffix: str
    operation: str
    digest: str


ONE = TypeAdapter(File)


class Files:
    """All of one folder. Any thread may ask."""

    def __init__(self, folder: Path, budget: int) -> None:
        """`budget`: bytes of all files together."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._budget = budget
        self._lock = threading.Lock()
        self._files: dict[str, File] = {}
        self._reserved = 0
        for path in folder.iterdir():
            if path.name.endswith(FRESH) or (OURS.fullmatch(path.name) and not path.with_suffix(RECORD).exists()):
                path.unlink()  # of an upload that a kill cut short
            elif OURS_RECORD.fullmatch(path.name):
                record = disk.read(path, ONE)
                if record is not None:
                    self._files[record.id] = record

    def add(self, data: bytes, filename: str, purpose: str, operation: str, digest: str) -> File:
        """Keeps the bytes, and then shows them. Raises Full."""
        suffix = ".csv" if filename.lower().endswith(".csv") else ".jsonl"
        file = File(
            f"file-{secrets.token_hex(12)}", len(data), time.time(), filename, purpose, suffix, operation, digest
        )
        with self._lock:
            held = sum(one.bytes for one in self._files.values()) + self._reserved
            if len(self._files) >= MAX_FILES or held + file.bytes > self._budget:
                raise Full("store_full", "uploaded files fill their place: delete some")
            self._reserved += file.bytes
        try:
            replace_file(self.path(file), data)
            disk.write_json(self._folder / f"{file.id}{RECORD}", asdict(file))
        except OSError:
            with suppress(OSError):
                self.path(file).unlink(missing_ok=True)
            raise Full("store_full", "the file cannot be kept: the disk is full or not to be written") from None
        finally:
            with self._lock:
                self._reserved -= file.bytes
        with self._lock:
            self._files[file.id] = file
        return file

    def get(self, name: str, param: str | None = None) -> File:
        """Raises Missing."""
        with self._lock:
            found = self._files.get(name)
        if found is None:
            raise Missing("file_not_found", "no such file: GET /v1/files lists what there is", param)
        return found

    def made_by(self, operation: str) -> File | None:
        """What an upload with this id made."""
        return next((one for one in self.all() if one.operation == operation), None)

    def all(self) -> Sequence[File]:
        """Oldest first."""
        with self._lock:
            return sorted(self._files.values(), key=lambda one: (one.created, one.id))

    def opened(self, file: File) -> BinaryIO:
        """To read from, which goes on where the file is deleted meanwhile. Raises Missing for one that was before."""
        try:
            return self.path(file).open("rb")
        except FileNotFoundError:
            raise Missing("file_not_found", "no such file: it was deleted") from None

    def path(self, file: File) -> Path:
        return self._folder / f"{file.id}{file.suffix}"

    def delete(self, file: File) -> None:
        """The record first: what is left after a kill is swept."""
        with self._lock:
            self._files.pop(file.id, None)
        (self._folder / f"{file.id}{RECORD}").unlink(missing_ok=True)
        self.path(file).unlink(missing_ok=True)
