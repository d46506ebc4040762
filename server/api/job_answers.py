"""The answers of /v1/files and /v1/fine_tuning: OpenAI's objects, and the way from our records to them.

Knows both shapes and decides nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from server.api.answers import Answer
from server.api.wire import Json
from server.errors import Invalid
from server.jobs.files import File
from server.jobs.records import Happening, Job
from server.lookup import BARE


class FileObject(Answer):
    """A file that was uploaded, or a job's results."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune", "fine-tune-results"]
    status: Literal["processed"]


class FileDeleted(Answer):
    """It is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class Page(Answer):
    """A part of a list; `after` its last id comes the next."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileList(Page):
    """Files."""

    data: list[FileObject]


class JobError(Answer):
    """Why a job failed: `diverged`, `interrupted`, `superseded`, or a code of the errors' table."""

    code: str
    message: str
    param: str | None


class JobObject(Answer):
    """A job. `fine_tuned_model`: the task that is served once it has succeeded, in `version`."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    error: JobError | None
    model: Literal["base"]
    suffix: str
    fine_tuned_model: str | None
    version: int | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    method: dict[str, Any]
    hyperparameters: dict[str, Any]
    integrations: list[Any]
    metadata: dict[str, str] | None


class JobList(Page):
    """Jobs, newest first."""

    data: list[JobObject]


class EventObject(Answer):
    """One line of a job's history; `data` of type metrics are the figures of an evaluation."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    type: Literal["message", "metrics"]
    message: str
    data: dict[str, Any]


class EventList(Page):
    """What happened, newest first."""

    data: list[EventObject]


class CheckpointObject(Answer):
    """The best so far: what will be served unless a later evaluation is better."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str | None
    step_number: int
    metrics: dict[str, float | None]


class CheckpointList(Page):
    """One at most."""

    data: list[CheckpointObject]


def file_object(file: File) -> Json:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


def job_object(job: Job) -> Json:
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created),
        "finished_at": _whole(job.finished),
        "estimated_finish": _whole(job.estimated_finish),
        "status": job.status,
        "error": job.error,
        "model": BARE,
        "suffix": job.task,
        "fine_tuned_model": job.task if job.status == "succeeded" else None,
        "version": job.version,
        "organization_id": "",
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": [] if job.result_file is None else [job.result_file],
        "trained_tokens": job.trained_tokens,
        "seed": job.seed,
        "method": job.method,
        "hyperparameters": {},
        "integrations": [],
        "metadata": job.metadata,
    }


def event_object(happening: Happening) -> Json:
    return {
        "id": happening.id,
        "object": "fine_tuning.job.event",
        "created_at": int(happening.created),
        "level": happening.level,
        "type": "metrics" if happening.data else "message",
        "message": happening.message,
        "data": happening.data,
    }


def checkpoints(job: Job) -> Iterator[Json]:
    if job.best is None or not {"step", "created"} <= job.best.keys():
        return
    step = job.best["step"]
    yield {
        "id": f"{job.id.replace('ftjob', 'ftckpt')}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(job.best["created"]),
        "fine_tuning_job_id": job.id,
        "fine_tuned_model_checkpoint": job.task if job.status == "succeeded" else None,
        "step_number": step,
        "metrics": {name: value for name, value in job.best.items() if name != "created"},
    }


def page(objects: Sequence[Json], after: str | None, limit: int) -> Json:
    """Those behind the one of that id. Raises Invalid for an id that is not among them."""
    start = 0
    if after is not None:
        found = next((place for place, one in enumerate(objects) if one["id"] == after), None)
        if found is None:
            raise Invalid("invalid_request", "after names none of the list", "after")
        start = found + 1
    data = list(objects[start : start + limit])
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(objects) > start + limit,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
