"""THE JOBS: files come in, a job is written down and queued, one thread learns, `publish` serves what came of it.

Knows files, records and the worker; no HTTP.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from anyio.to_thread import run_sync

from prompt_store.errors import TaskDeleted, TaskNotFound
from prompt_store.prompt import PromptFile
from server.errors import Conflicting, Full, Unacceptable, Unavailable
from server.heap import give_back
from server.jobs import disk
from server.jobs.failures import INTERRUPTED_TOO_OFTEN, NO_DATA, OTHER_BASE, Failure
from server.jobs.files import TRAINING, File, Files
from server.jobs.records import Job, Records
from server.jobs.wanted import Wanted, begun, check
from server.jobs.worker import MAX_ATTEMPTS, Worker
from server.publish import Desk, Upload, fits, publish
from tuning.base import FrozenBase

MAX_WAITING = 100
"""Jobs that run or wait."""
LEAVE_SECONDS = 10.0
Made = TypeVar("Made", File, Job)


@dataclass(frozen=True, slots=True)
class NoJobs:
    """Why this server learns nothing."""

    reason: str

    def leave(self) -> None:
        """There is nothing to end."""

    def close(self) -> None:
        """There is nothing to end."""


class Jobs:
    """Of one server: `open` it, `close` it. Its folder is its own as long."""

    def __init__(self, folder: Path, lock: TextIO, base: FrozenBase, desk: Desk) -> None:
        self.files = Files(folder / "files", desk.settings.jobs_budget)
        self.records = Records(folder / "jobs")
        self._lock = lock
        self._base = base
        self._desk = desk
        self._begun: set[str] = set()
        self._creating = asyncio.Lock()
        engine = desk.room.running.engine
        base.context = min(base.context, engine.max_total_tokens)
        outlet = _Outlet(desk, asyncio.get_running_loop())
        self._worker = Worker(self.records, self.files, base, engine.idle, outlet, desk.settings.jobs_save_seconds)

    @classmethod
    async def open(cls, base: FrozenBase, desk: Desk) -> "Jobs":
        """Jobs that another process left in the middle wait again. Raises InUseError, OSError."""
        folder = Path(desk.settings.jobs)
        lock = await run_sync(disk.own, folder)
        jobs = cls(folder, lock, base, desk)
        await run_sync(jobs._take_up)
        jobs._worker.start()
        return jobs

    def leave(self) -> None:
        """Nothing more is learnt; to be called as soon as the server is told to end."""
        self._worker.leave()

    def close(self) -> None:
        self._worker.leave()
        self._worker.join(LEAVE_SECONDS)
        self._lock.close()

    async def upload(self, data: bytes, filename: str, operation: str) -> File:
        """Keeps a file of rows; sent again under the same operation it is kept once. Raises Unacceptable, Full."""
        named = filename.lower().encode("utf-8", "replace")  # whose end says how it is read
        digest = await run_sync(lambda: hashlib.sha256(named + b"\0" + data).hexdigest())
        with self._once(operation):
            known = self.files.made_by(operation)
            if known is not None:
                return _same(known, digest)
            return await run_sync(self.files.add, data, filename, TRAINING, operation, digest)

    async def create(self, wanted: Wanted) -> Job:
        """THE WAY IN: known already -> room in the queue -> the rows -> the starting version -> on disk -> queued.

        Raises Conflicting, Unacceptable, Unavailable, Missing, Full and StoreError.
        """
        with self._once(wanted.operation):
            async with self._creating:
                known = next((job for job in self.records.all() if job.operation == wanted.operation), None)
                if known is not None:
                    return _same(known, wanted.digest)
                if sum(not job.over for job in self.records.all()) >= MAX_WAITING:
                    raise Unavailable("queue_full", f"{MAX_WAITING} jobs wait already")
                seed = wanted.seed if wanted.seed is not None else secrets.randbelow(2**31)
                try:
                    await run_sync(check, wanted, seed, self.files, self._base)
                finally:
                    await run_sync(give_back)  # what reading a large file needed
                starts_from = await self._desk.room.tasks.reach.ask(self._current, wanted.task)
                job = begun(wanted, seed, starts_from, self._base.base.fingerprint)
                await run_sync(self._keep, job)
        self._worker.wake()
        return job

    async def cancel(self, name: str) -> Job:
        """The job, cancelled; twice is as good as once. Raises Missing, and Conflicting for one that is over."""
        with _on_disk():
            changed = await run_sync(self.records.cancel, name)
        if changed is None:
            now = self.records.get(name)
            if now.status == "cancelled":
                return now
            raise Conflicting("job_finished", "the job is over, or is being published: it cannot be cancelled")
        await run_sync(self.records.tell, name, "the job was cancelled")
        return changed

    async def delete(self, name: str) -> File:
        """Raises Missing, and Conflicting for a file that a job still needs."""
        file = self.files.get(name)
        if any(file.id in {job.training_file, job.validation_file} for job in self.records.all() if not job.over):
            raise Conflicting("file_in_use", "a job that is not over learns from this file")
        with _on_disk():
            await run_sync(self.files.delete, file)
        return file

    def _current(self, task: str) -> str | None:
        """The digest that is current now."""
        try:
            return self._desk.room.tasks.store.current(task).digest
        except (TaskNotFound, TaskDeleted):
            return None

    def _keep(self, job: Job) -> None:
        with _on_disk():
            self.records.add(job)
        self.records.tell(job.id, "the job waits for its turn")

    def _take_up(self) -> None:
        """What another process left in the middle."""
        for job in self.records.all():
            if job.over:
                continue
            reason = self._lost(job)
            if reason is not None:
                self.records.fail(job.id, reason)
            elif job.status != "queued":
                self.records.change(job.id, status="queued")
                self.records.tell(job.id, "the server started again: the job waits for its turn", "warn")

    def _lost(self, job: Job) -> Failure | None:
        """Why a job cannot go on."""
        if job.attempts >= MAX_ATTEMPTS * (2 if job.publishing else 1):  # that one has learnt, and is perhaps served
            return INTERRUPTED_TOO_OFTEN
        if job.fingerprint != self._base.base.fingerprint:
            return OTHER_BASE
        needed = [name for name in (job.training_file, job.validation_file) if name is not None]
        return None if {file.id for file in self.files.all()}.issuperset(needed) else NO_DATA

    @contextmanager
    def _once(self, operation: str) -> Iterator[None]:
        """One request of an operation at a time."""
        if operation in self._begun:
            raise Conflicting("operation_in_flight", "a request with this Idempotency-Key is being answered")
        self._begun.add(operation)
        try:
            yield
        finally:
            self._begun.discard(operation)


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise Full("store_full", "the disk of the jobs is full or not to be written; nothing was changed") from None


def _same(made: Made, digest: str) -> Made:
    if made.digest != digest:
        raise Unacceptable("idempotency_mismatch", "this Idempotency-Key named another request", "Idempotency-Key")
    return made


@dataclass(frozen=True, slots=True)
class _Outlet:
    """The upload path, asked from the worker's thread."""

    desk: Desk
    loop: asyncio.AbstractEventLoop

    def check(self, file: PromptFile) -> None:
        fits(file, self.desk)

    def publish(self, job: Job, file: PromptFile) -> int:
        upload = Upload(
            job.task, file.data, op_id=job.id, if_match=job.starts_from, if_none_match=job.starts_from is None
        )
        task, _ = asyncio.run_coroutine_threadsafe(publish(upload, self.desk), self.loop).result()
        return task.version
