"""Jobs on disk: a record each, what has happened, and the checkpoint to go on from.

Knows states and when they may change; not how anything is learnt.
"""

import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from prompt_store.durable import FRESH
from server.errors import MAX_MESSAGE, Missing
from server.jobs import disk
from server.jobs.failures import Failure

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
FINAL = frozenset({"succeeded", "failed", "cancelled"})
MAX_JOBS = 1000
"""That are remembered."""
FINITE = ConfigDict(allow_inf_nan=False)
RECORD, EVENTS, CHECKPOINT = "job.json", "events.jsonl", "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class Job:
    """`method` is what was asked for, whole; `starts_from` the digest that was current then, None where nothing was.

    `best`: figures of what would be served now. `attempts`: how often it was begun. `publishing`: it has learnt, and
    can no longer be cancelled, whatever is restarted: it may be served. Times in seconds since 1970.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    id: str
    created: float
    task: str
    method: Mapping[str, Any]
    training_file: str
    validation_file: str | None
    seed: int
    metadata: Mapping[str, str] | None
    starts_from: str | None
    fingerprint: str
    operation: str
    digest: str
    status: Status = "queued"
    attempts: int = 0
    publishing: bool = False
    finished: float | None = None
    estimated_finish: float | None = None
    error: Mapping[str, str | None] | None = None
    version: int | None = None
    trained_tokens: int | None = None
    result_file: str | None = None
    best: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a job's history. `data`: figures of an evaluation."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    id: str
    created: float
    level: Literal["info", "warn", "error"]
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


ONE, HAPPENING = TypeAdapter(Job), TypeAdapter(Happening)


class Records:
    """All jobs of one folder. Any thread may ask; a state that is final stays."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # of its own: whoever only asks never waits for a disk
        self._jobs: dict[str, Job] = {}
        for leaving in folder.glob(f"*/.*{FRESH}"):  # of a kill while something was written
            leaving.unlink(missing_ok=True)
        for path in folder.glob(f"*/{RECORD}"):
            job = disk.read(path, ONE)
            if job is not None:
                self._jobs[job.id] = job
                if job.over:  # a kill between a job's end and this
                    self.checkpoint(job.id).unlink(missing_ok=True)

    def add(self, job: Job) -> None:
        """Where there are MAX_JOBS, the oldest that is over is forgotten. Raises OSError."""
        with self._writing:
            folder = self._folder / job.id
            try:
                folder.mkdir()
                disk.write_json(folder / RECORD, asdict(job))
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._set(job)
            over = [one for one in self.all() if one.over]
            for one in over[: max(len(self._jobs) - MAX_JOBS, 0)]:
                with self._lock:
                    del self._jobs[one.id]
                shutil.rmtree(self._folder / one.id, ignore_errors=True)

    def get(self, name: str) -> Job:
        """Raises Missing."""
        with self._lock:
            found = self._jobs.get(name)
        if found is None:
            raise Missing("job_not_found", "no such job: GET /v1/fine_tuning/jobs lists what there is")
        return found

    def all(self) -> Sequence[Job]:
        """Oldest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda one: (one.created, one.id))

    def counts(self) -> Mapping[str, int]:
        """How many there are of each status, those of which there is none too."""
        with self._lock:
            found = Counter(job.status for job in self._jobs.values())
        return {status: found[status] for status in get_args(Status)}

    def change(self, name: str, **fields: Any) -> Job | None:
        """The job as it is now; None when it was over already and nothing changed. Raises OSError."""
        with self._writing:
            job = self.get(name)
            return None if job.over else self._write(job, fields)

    def cancel(self, name: str) -> Job | None:
        """None when it is over, or being published. Raises Missing and OSError."""
        with self._writing:
            job = self.get(name)
            if job.over or job.publishing:
                return None
            return self._write(job, {"status": "cancelled", "finished": time.time(), "estimated_finish": None})

    def _write(self, job: Job, fields: Mapping[str, Any]) -> Job:
        changed = replace(job, **fields)
        disk.write_json(self._folder / job.id / RECORD, asdict(changed))
        self._set(changed)
        if changed.over:
            self.checkpoint(job.id).unlink(missing_ok=True)
        return changed

    def _set(self, job: Job) -> None:
        with self._lock:
            self._jobs[job.id] = job

    def estimate(self, name: str, finish: float) -> None:
        """When it will be done, as far as one can tell: not worth a write."""
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and not job.over:
                self._jobs[name] = replace(job, estimated_finish=finish)

    def fail(self, name: str, failed: Failure) -> None:
        """The end of a job that went wrong. Raises OSError."""
        said = {"code": failed.code, "message": failed.message[:MAX_MESSAGE], "param": None}
        changed = self.change(name, status="failed", error=said, finished=time.time(), estimated_finish=None)
        if changed is not None:
            self.tell(name, f"the job failed: {failed.message}"[:MAX_MESSAGE], "error")

    def forget(self, name: str, failed: Failure) -> None:
        """A job whose end cannot be written down is not begun again by this process."""
        with self._lock:
            job = self._jobs.get(name)
            if job is not None:
                said = {"code": failed.code, "message": failed.message, "param": None}
                self._jobs[name] = replace(job, status="failed", error=said, finished=time.time())

    def wanted(self, name: str) -> bool:
        """Whether it is there and not over."""
        with self._lock:
            job = self._jobs.get(name)
        return job is not None and not job.over

    def tell(self, name: str, message: str, level: str = "info", **data: Any) -> None:
        """One more line of its history; a disk that is full loses it."""
        happening = {"id": f"ftevent-{secrets.token_hex(12)}", "created": time.time(), "level": level}
        with suppress(OSError):
            disk.append(self._folder / name / EVENTS, {**happening, "message": message, "data": data})

    def history(self, name: str) -> Iterator[Happening]:
        """Oldest first."""
        for line in disk.lines(self._folder / name / EVENTS):
            with suppress(ValidationError):
                yield HAPPENING.validate_python(line)

    def checkpoint(self, name: str) -> Path:
        return self._folder / name / CHECKPOINT
