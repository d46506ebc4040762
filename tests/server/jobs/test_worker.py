"""The thread that learns, without a server: when it heeds that nobody wants the job any more."""

import json
from pathlib import Path
from typing import Any

import pytest

from prompt_store.prompt import PromptFile
from server.jobs.files import TRAINING, Files
from server.jobs.method import Method
from server.jobs.records import Job, Records
from server.jobs.rows import both
from server.jobs.wanted import Wanted, begun
from server.jobs.worker import StoppedError, Tokenizing, Worker
from tests.server.jobs.asking import LONG, ROWS, method
from tests.server.site import until
from tests.tuning.conftest import frozen
from tuning.base import FrozenBase

TEXTS = 10
"""So many are encoded before the job is cancelled: there are more."""


class Nowhere:
    """No prompt may come this far."""

    def check(self, file: PromptFile) -> None:
        raise AssertionError(file.digest)

    def publish(self, job: Job, file: PromptFile) -> int:
        raise AssertionError(job.id, file.digest)


def asked(base: FrozenBase, files: Files, rows: bytes = ROWS, told: Any = None) -> Job:
    """Of rows that are uploaded for it."""
    file = files.add(rows, "a", TRAINING, "op", "")
    wanted = Wanted("t", Method.model_validate(told or method()), file.id, None, 0, None, "op")
    return begun(wanted, 0, None, base.base.fingerprint)


def until_cancelled(job: Job, records: Records, files: Files, base: FrozenBase) -> None:
    """A worker takes it up and leaves it."""
    worker = Worker(records, files, base, lambda _: True, Nowhere(), 20.0)
    worker.start()
    until(lambda: records.get(job.id).over, "it is cancelled")
    worker.leave()
    worker.join(60)


def test_a_job_that_is_cancelled_while_it_is_encoded_ends_at_the_next_text(tmp_path: Path) -> None:
    """However many rows there are."""
    base, records, files = frozen(), Records(tmp_path / "jobs"), Files(tmp_path / "files", 10**6)
    encode = base.tokenizer.encode
    encoded: list[str] = []
    job = asked(base, files)

    def counted(text: str, parse_special: bool) -> list[int]:
        encoded.append(text)
        if len(encoded) == TEXTS:
            records.cancel(job.id)
        return encode(text, parse_special)

    base.tokenizer = Tokenizing(counted, base.tokenizer.decode, base.tokenizer.bos)
    records.add(job)
    until_cancelled(job, records, files, base)
    assert len(encoded) == TEXTS


def test_rows_are_read_no_further_than_they_are_wanted(tmp_path: Path) -> None:
    """Of a file as large as an upload may be."""
    files, told = Files(tmp_path / "files", 10**6), Method.model_validate(method())
    file = files.add(ROWS, "a", TRAINING, "op", "")
    rows: list[int] = []

    def pace() -> None:
        rows.append(1)
        if len(rows) == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        both(told.data, files, file.id, None, pace)
    assert len(rows) == 5


class Impatient(Records):
    """Cancels a job when it has been asked ten times whether it is wanted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = 0

    def wanted(self, name: str) -> bool:
        self.asked += 1
        if self.asked == TEXTS:
            self.cancel(name)
        return super().wanted(name)


def test_a_job_that_is_cancelled_while_its_rows_are_read_encodes_none(tmp_path: Path) -> None:
    """The reader asks at each row."""
    base, records, files = frozen(), Impatient(tmp_path / "jobs"), Files(tmp_path / "files", 10**6)
    encode = base.tokenizer.encode
    encoded: list[str] = []

    def kept(text: str, parse_special: bool) -> list[int]:
        encoded.append(text)
        return encode(text, parse_special)

    base.tokenizer = Tokenizing(kept, base.tokenizer.decode, base.tokenizer.bos)
    job = asked(base, files)
    records.add(job)
    until_cancelled(job, records, files, base)
    assert records.asked >= TEXTS
    assert encoded == []


def test_what_is_odd_about_rows_is_told_once_however_often_a_job_is_begun(tmp_path: Path) -> None:
    """Two servers stop in the middle of it."""
    base, records, files = frozen(), Records(tmp_path / "jobs"), Files(tmp_path / "files", 10**6)
    rows = "".join(json.dumps({"text": f"row {number}", "target": "same"}) + "\n" for number in range(20)).encode()
    job = asked(base, files, rows, method(told=LONG))
    records.add(job)
    encode = base.tokenizer
    for served in (1, 2):
        base.tokenizer = encode
        worker = Worker(records, files, base, lambda _: True, Anywhere(), 20.0)
        worker.start()
        until(lambda served=served: metrics(records, job) >= served, "it learns")  # type: ignore[misc]
        worker.leave()
        worker.join(60)
    assert [one.level for one in records.history(job.id)].count("warn") == 1


def metrics(records: Records, job: Job) -> int:
    """How often it was evaluated."""
    return sum("step" in (one.data or {}) for one in records.history(job.id))


class Anywhere(Nowhere):
    """Every draft would do."""

    def check(self, file: PromptFile) -> None:
        assert file.digest
