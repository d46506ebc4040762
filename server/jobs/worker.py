"""The thread that learns: one job after the other on the server's own frozen base, while nobody waits for an answer.

Knows records, the tuner and how to wait. Whether a prompt can be served here, and how it is published, it is told.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prompt_store.prompt import PromptFile
from server.engine.model import one_thread
from server.errors import KNOWN, Full, as_fault
from server.heap import give_back
from server.jobs.failures import INTERNAL, Failure, failure
from server.jobs.files import RESULTS, Files
from server.jobs.method import Method
from server.jobs.progress import Progress, curve
from server.jobs.records import Job, Records
from server.jobs.rows import both
from server.telemetry import logger
from tuning.base import FrozenBase, Interrupted
from tuning.checkpoint import CheckpointError
from tuning.compare import Comparison, Result
from tuning.labels import notes

MAX_ATTEMPTS = 3
"""Starts of a job that a server did not survive: it may be the job that ends it."""
RUNS = "the job runs"
NICE = 10
"""Of the thread: behind whatever serves, but not so far that it is put aside while it holds the interpreter's lock."""
WAIT_SECONDS = 1.0
"""How long a pass waits for the engine to have nothing to do; then one pass is made all the same."""
PUBLISHES = 8
"""Tries while the store is away: about four minutes."""


class Outlet(Protocol):
    """What becomes of a prompt. Both may be called from any thread and raise PromptError, StoreError or Fault."""

    def check(self, file: PromptFile) -> None:
        """Whether this server could run it."""

    def publish(self, job: Job, file: PromptFile) -> int:
        """The version that is current now."""


class StoppedError(Interrupted):
    """The server leaves, or the job was cancelled: nothing more is learnt."""


@dataclass(slots=True)
class Tokenizing:
    """A tokenizer of functions."""

    encode: Callable[[str, bool], list[int]]
    decode: Callable[[list[int]], str]
    bos: int | None


class Worker:
    """`idle` waits so many seconds at most until there is nothing to serve; `save` are those between checkpoints."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a thread of its own needs
        self,
        records: Records,
        files: Files,
        base: FrozenBase,
        idle: Callable[[float], bool],
        outlet: Outlet,
        save: float,
    ) -> None:
        self._records, self._files, self._base, self._outlet, self._save = records, files, base, outlet, save
        self._idle = idle
        self._changed = threading.Condition()
        self._leaving = threading.Event()
        self._current = ""
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._tokenize = base.tokenizer.encode
        base.pace = self._wait
        base.tokenizer = Tokenizing(self._encode, base.tokenizer.decode, base.tokenizer.bos)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is a new job."""
        with self._changed:
            self._changed.notify()

    def leave(self) -> None:
        """Ends at the next pass; what runs goes on from its last checkpoint when a server starts again."""
        self._leaving.set()
        self.wake()

    def join(self, seconds: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        if sys.platform == "linux":  # there a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        with one_thread():
            while (job := self._next()) is not None:
                self._current = job.id
                try:
                    self._finish(job, self._attempt(job))
                except Exception as error:  # noqa: BLE001 - the next job must not suffer
                    logger().error("a job's end cannot be written", job=job.id, exc_info=error)
                    self._records.forget(job.id, INTERNAL)
                give_back()

    def _next(self) -> Job | None:
        """The oldest that waits. None: leave."""
        with self._changed:
            while not self._leaving.is_set():
                waiting = [job for job in self._records.all() if job.status == "queued"]
                if waiting:
                    return waiting[0]
                self._changed.wait()
        return None

    def _attempt(self, job: Job) -> Failure | None:
        """Why it failed; None where it did not, or was stopped."""
        try:
            self._run(job)
        except StoppedError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, the next job goes on
            found = failure(error)
            if found is INTERNAL:
                logger().error("a job failed", job=job.id, exc_info=error)
            return found
        return None

    def _run(self, job: Job) -> None:
        """From the files to the task, top to bottom."""
        job = self._begin(job)
        method = Method.model_validate(job.method)
        train, held_out = both(method.data, self._files, job.training_file, job.validation_file, self._check_wanted)
        self._check_wanted()
        settings = method.settings([*train, *held_out], job.seed)
        for odd in notes(train, held_out, method.data.labels, settings.labels):
            if all(one.message != odd for one in self._records.history(job.id)):
                self._records.tell(job.id, odd, "warn")
        comparison = Comparison(
            self._base, lambda: self._base, settings, method.text(), [method.name], [settings.length], [job.seed],
            train, held_out, method.rate,
        )  # fmt: skip
        for draft in comparison.prepare():
            self._outlet.check(draft)
        self._learn(job, comparison, Progress(self._records, job.id, settings))
        result = comparison.chosen()
        version = self._publish(job, result)
        self._told(job, version, result)

    def _begin(self, job: Job) -> Job:
        running = self._records.change(job.id, status="running", attempts=job.attempts + 1)
        if running is None:  # cancelled meanwhile
            raise StoppedError
        before = any(one.message == RUNS for one in self._records.history(job.id))
        self._records.tell(job.id, "the job goes on" if before else RUNS)
        logger().info("a job runs", job=job.id, task=job.task, attempt=running.attempts)
        return running

    def _learn(self, job: Job, comparison: Comparison, progress: Progress) -> None:
        checkpoint = self._records.checkpoint(job.id)
        try:
            for event in comparison.events(lambda _: checkpoint, resume=True, save_seconds=self._save):
                if self._records.wanted(job.id):  # it ends within a pass, where it is saved
                    progress.hear(event)
        except CheckpointError as error:
            checkpoint.unlink(missing_ok=True)
            self._records.tell(job.id, f"the job begins again: {error}", "warn")
            comparison.prepare()
            self._learn(job, comparison, progress)

    def _wait(self) -> None:
        """In front of every pass."""
        self._check_wanted()
        self._idle(WAIT_SECONDS)
        self._check_wanted()

    def _check_wanted(self) -> None:
        if self._leaving.is_set() or not self._records.wanted(self._current):
            raise StoppedError

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        """The tokenizer's; a job that is not wanted any more ends here. Other threads check rows with the same base."""
        if threading.current_thread() is self._thread:
            self._check_wanted()
        return self._tokenize(text, parse_special)

    def _publish(self, job: Job, result: Result) -> int:
        """From here on it cannot be cancelled. A store that is away is waited for."""
        if result.file is None or self._records.change(job.id, publishing=True) is None:
            raise StoppedError
        for tries in range(PUBLISHES):
            try:
                return self._outlet.publish(job, result.file)
            except KNOWN as error:
                fault = as_fault(error)
                if self._leaving.is_set() or fault.code == "draining":
                    raise StoppedError from None
                if not fault.rule.retryable or tries == PUBLISHES - 1:
                    raise
                self._records.tell(job.id, f"publishing waits: {fault.message}", "warn")
                self._leaving.wait(2.0**tries)
        raise StoppedError

    def _told(self, job: Job, version: int, result: Result) -> None:
        """The end of one that went well."""
        name = None
        try:
            operation = f"results of {job.id}"
            made = self._files.made_by(operation)  # before a kill
            name = (made or self._files.add(curve(result), f"{job.id}.csv", RESULTS, operation, "")).id
        except Full as full:
            self._records.tell(job.id, f"the results are not kept: {full.message}", "warn")
        self._records.tell(job.id, f"the task is served: version {version}")
        self._records.change(
            job.id, status="succeeded", finished=time.time(), version=version, result_file=name,
            trained_tokens=result.report.get("trained_tokens", 0), estimated_finish=None,
        )  # fmt: skip

    def _finish(self, job: Job, failed: Failure | None) -> None:
        """A job that the server left in the middle waits for the next one; that start does not count."""
        try:
            if failed is not None:
                self._records.fail(job.id, failed)
            elif self._leaving.is_set() and self._records.wanted(job.id):
                self._records.change(job.id, status="queued", attempts=job.attempts)
        except OSError as error:
            logger().error("a job's end cannot be written", job=job.id, exc_info=error)
            self._records.forget(job.id, failed or INTERNAL)
        if not self._records.wanted(job.id):  # over: what it was saved with has no use
            self._records.checkpoint(job.id).unlink(missing_ok=True)
        logger().info("a job has stopped", job=job.id, task=job.task, code=failed.code if failed else None)
