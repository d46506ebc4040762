"""/v1/fine_tuning/jobs: tasks learnt on this server's own base, as OpenAI's clients ask for them."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from prompt_store.task import is_task_id
from server.api import wire
from server.api.auth import Access, needs
from server.api.body import read_json
from server.api.conditions import operation_id
from server.api.errors import TASK_ID_RULE, documented
from server.api.job_answers import (
    CheckpointList,
    EventList,
    JobList,
    JobObject,
    checkpoints,
    event_object,
    job_object,
    page,
)
from server.api.jobs_of import jobs_of
from server.api.lenient import Lacking, lenient
from server.api.openapi import accepts, takes
from server.api.queries import JobPage, JobPart
from server.api.schemas import JobBody
from server.errors import Invalid, Missing
from server.jobs.wanted import Wanted
from server.lookup import BARE

router = APIRouter(tags=["tuning"])
LACKING = {
    "integrations": Lacking("ask for a job's events instead"),
    "hyperparameters": Lacking("they stand in the method"),
}


@router.post(
    "/v1/fine_tuning/jobs",
    summary="Learn a task",
    response_model=JobObject,
    responses=documented(404, 408, 409, 413, 415, 422, 507),
    openapi_extra=takes("Idempotency-Key", body=accepts(JobBody)),
)
@needs(Access.ADMIN)
async def create(request: Request) -> Response:
    jobs = jobs_of(request)
    body = await read_json(request, lenient(JobBody, LACKING))
    if body.model != BARE:
        raise Missing("model_not_found", f"tasks are learnt on this server's own base: the model is {BARE}", "model")
    if not is_task_id(body.suffix):
        raise Invalid("invalid_task_id", TASK_ID_RULE, "suffix")
    wanted = Wanted(
        body.suffix, body.method, body.training_file, body.validation_file, body.seed, body.metadata,
        operation_id(request),
    )  # fmt: skip
    return wire.answer(job_object(await jobs.create(wanted)))


@router.get("/v1/fine_tuning/jobs", summary="List jobs, newest first", response_model=JobList, responses=documented())
@needs(Access.ADMIN)
async def list_jobs(request: Request, query: Annotated[JobPage, Query()]) -> Response:
    found = [job_object(job) for job in reversed(jobs_of(request).records.all()) if query.wants(job.metadata)]
    return wire.answer(page(found, query.after, query.limit))


@router.get("/v1/fine_tuning/jobs/{job}", summary="One job", response_model=JobObject, responses=documented(404))
@needs(Access.ADMIN)
async def get_job(request: Request, job: str) -> Response:
    return wire.answer(job_object(jobs_of(request).records.get(job)))


@router.post(
    "/v1/fine_tuning/jobs/{job}/cancel",
    summary="Cancel a job",
    response_model=JobObject,
    responses=documented(404, 409),
)
@needs(Access.ADMIN)
async def cancel(request: Request, job: str) -> Response:
    return wire.answer(job_object(await jobs_of(request).cancel(job)))


@router.get(
    "/v1/fine_tuning/jobs/{job}/events",
    summary="What happened, newest first",
    response_model=EventList,
    responses=documented(404),
)
@needs(Access.ADMIN)
async def events(request: Request, job: str, query: Annotated[JobPart, Query()]) -> Response:
    records = jobs_of(request).records
    name = records.get(job).id
    history = await run_sync(lambda: [event_object(one) for one in records.history(name)])
    return wire.answer(page(history[::-1], query.after, query.limit))


@router.get(
    "/v1/fine_tuning/jobs/{job}/checkpoints",
    summary="The best so far",
    response_model=CheckpointList,
    responses=documented(404),
)
@needs(Access.ADMIN)
async def list_checkpoints(request: Request, job: str, query: Annotated[JobPart, Query()]) -> Response:
    found = list(checkpoints(jobs_of(request).records.get(job)))
    return wire.answer(page(found, query.after, query.limit))
