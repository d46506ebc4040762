"""/tasks: from HTTP to the store and the upload path and back, and nothing else."""

import base64
import hashlib
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from prompt_store.task import Task, is_task_id
from prompt_store.telling import version_fields
from server.api import wire
from server.api.answers import Nearest, TaskList, TaskObject, VersionDetail, VersionList
from server.api.auth import Access, needs
from server.api.body import decoded, media_type, read_bytes, read_json, strict, validated
from server.api.conditions import check_content_digest, if_match, if_none_match, is_given, operation_id
from server.api.desk_of import desk_of
from server.api.errors import TASK_ID_RULE, documented
from server.api.openapi import accepts, binary, takes
from server.api.patience import in_time
from server.api.queries import BINARY, ETAG, LOCATION, MERGE_PATCH, OPERATION, AtLeast, Bare, Near, NewId, Page
from server.api.schemas import RollbackBody, TaskPatch, TextTask
from server.errors import Invalid, Missing, Unsupported
from server.publish import Desk, Patch, Upload, delete, patch, publish, rollback
from server.rendering import Room

T = TypeVar("T")
router = APIRouter(tags=["tasks"])


@router.put(
    "/tasks/{task}",
    summary="Publish a version",
    response_model=TaskObject,
    responses={
        200: {"description": "This was the current version already", "headers": {**ETAG, **OPERATION}},
        201: {"model": TaskObject, "description": "A new version", "headers": {**ETAG, **OPERATION, **LOCATION}},
        **documented(408, 412, 413, 415, 422, 507),
    },
    openapi_extra=takes(
        "If-Match", "If-None-Match", "Idempotency-Key", "Content-Digest", body=accepts(TextTask, others=BINARY)
    ),
)
@needs(Access.ADMIN)
async def put_task(request: Request, task: NewId, query: Annotated[Bare, Query()]) -> Response:
    if not is_task_id(task):
        raise Invalid("invalid_task_id", TASK_ID_RULE, "task")
    bare = query.given()
    upload = Upload(
        task=task,
        source=await _source(request, bare),
        op_id=operation_id(request),
        given=is_given(request),
        bare=bare,
        if_match=if_match(request),
        if_none_match=if_none_match(request),
    )
    published, created = await _in_time(request, publish(upload, desk_of(request)), upload.op_id)
    return _changed(request, published, upload.op_id, created=created)


@router.patch(
    "/tasks/{task}",
    summary="Change metadata: a new version with the same tensors (JSON merge patch, RFC 7396)",
    response_model=TaskObject,
    responses={
        200: {"description": "Nothing changed", "headers": {**ETAG, **OPERATION}},
        201: {"model": TaskObject, "description": "A new version", "headers": {**ETAG, **OPERATION, **LOCATION}},
        **documented(404, 408, 412, 413, 415, 422, 507),
    },
    openapi_extra=takes("If-Match", "Idempotency-Key", body=accepts(TaskPatch, others=MERGE_PATCH)),
)
@needs(Access.ADMIN)
async def patch_task(request: Request, task: str) -> Response:
    merge = await read_json(request, _merge, "application/json", "application/merge-patch+json")
    change = Patch(task, merge, operation_id(request), is_given(request), if_match(request))
    patched, created = await _in_time(request, patch(change, desk_of(request)), change.op_id)
    return _changed(request, patched, change.op_id, created=created)


@router.get("/tasks", summary="List tasks", response_model=TaskList, responses=documented())
@needs(Access.GENERATE)
async def list_tasks(request: Request, page: Annotated[Page, Query()]) -> Response:
    desk = desk_of(request)
    tasks, has_more = await desk.room.tasks.reach.ask(desk.room.tasks.store.list, **page.model_dump())
    data = [_object(task, desk) for task in tasks]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return wire.answer({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})


@router.get(
    "/tasks/{task}",
    summary="The current version",
    response_model=TaskObject,
    responses={200: {"description": "The task", "headers": ETAG}, **documented(404)},
)
@needs(Access.GENERATE)
async def get_task(request: Request, task: str, query: Annotated[AtLeast, Query()]) -> Response:
    desk = desk_of(request)
    found = await desk.room.tasks.find(task, min_version=query.min_version)
    return wire.answer(_object(found, desk), headers={"ETag": f'"{found.digest}"'})


@router.get("/tasks/{task}/versions", summary="History", response_model=VersionList, responses=documented(404))
@needs(Access.GENERATE)
async def list_versions(request: Request, task: str, query: Annotated[AtLeast, Query()]) -> Response:
    await _arrived(request, task, query)
    tasks = desk_of(request).room.tasks
    versions = await tasks.reach.ask(tasks.store.versions, task)
    return wire.answer({"object": "list", "data": [version_fields(version) for version in versions]})


@router.get(
    "/tasks/{task}/versions/{version}",
    summary="One version",
    response_model=VersionDetail,
    responses=documented(404),
)
@needs(Access.GENERATE)
async def get_version(request: Request, task: str, version: str, query: Annotated[AtLeast, Query()]) -> Response:
    await _arrived(request, task, query)
    desk = desk_of(request)
    found = await desk.room.tasks.reach.ask(desk.room.tasks.store.get, task, _number(version))
    whole = None if found.digest is None else _object(found, desk)
    return wire.answer({**version_fields(found), "task": whole})


@router.get(
    "/tasks/{task}/versions/{version}/prompt",
    summary="The stored file, byte for byte",
    response_class=Response,
    responses={
        200: {
            "description": "The prompt file",
            "content": {"application/octet-stream": binary("a prompt file")},
            "headers": {**ETAG, "Content-Digest": {"schema": {"type": "string"}, "description": "RFC 9530"}},
        },
        **documented(404, 409),
    },
)
@needs(Access.GENERATE)
async def get_prompt(request: Request, task: str, version: str, query: Annotated[AtLeast, Query()]) -> Response:
    await _arrived(request, task, query)
    tasks = desk_of(request).room.tasks
    found = await tasks.reach.ask(tasks.store.get, task, _number(version))
    data = await tasks.reach.ask(tasks.store.blob, found)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {"ETag": f'"{found.digest}"', "Content-Digest": f"sha-256=:{digest}:"}
    return Response(data, headers=headers, media_type="application/octet-stream")


@router.get(
    "/tasks/{task}/nearest",
    summary="The tokens that each pseudo-token is nearest to",
    response_model=Nearest,
    responses=documented(404),
)
@needs(Access.GENERATE)
async def nearest(request: Request, task: str, query: Annotated[Near, Query()]) -> Response:
    kind, found = await near(desk_of(request).room, task, query)
    if found is None:
        raise Invalid("invalid_request", f"kind {kind} has no pseudo-tokens to compare", "task")
    return await run_sync(_near_answer, found)


async def near(room: Room, task: str, query: Near) -> tuple[str, list[list[tuple[int, str, float]]] | None]:
    """The task's kind, and for each pseudo-token the ids, texts and cosines nearest to it; None where it has none."""
    served = await room.tasks.bring(await room.tasks.find(task, min_version=query.min_version))
    rows = None if served.prompt is None else served.prompt.rows
    if rows is None:
        return served.metadata.kind, None

    def named() -> list[list[tuple[int, str, float]]]:
        """A thousand rows of a hundred tokens take their time, and the loop has others to serve."""
        found = room.running.engine.base.nearest(rows, query.k)
        return [[(index, room.tokenizer.piece(index), cosine) for index, cosine in tokens] for tokens in found]

    return served.metadata.kind, await run_sync(named)


def _near_answer(found: list[list[tuple[int, str, float]]]) -> Response:
    data = [
        {"row": row, "tokens": [{"id": index, "text": text, "cosine": cosine} for index, text, cosine in tokens]}
        for row, tokens in enumerate(found)
    ]
    return wire.answer({"data": data})


@router.post(
    "/tasks/{task}/rollback",
    summary="A new version with an old one's content",
    response_model=TaskObject,
    responses={
        200: {"description": "This is the current content already", "headers": {**ETAG, **OPERATION}},
        201: {"model": TaskObject, "description": "A new version", "headers": {**ETAG, **OPERATION, **LOCATION}},
        **documented(404, 408, 409, 412, 413, 415, 422, 507),
    },
    openapi_extra=takes("If-Match", "Idempotency-Key", body=accepts(RollbackBody)),
)
@needs(Access.ADMIN)
async def rollback_task(request: Request, task: str) -> Response:
    body = await read_json(request, strict(RollbackBody))
    op_id = operation_id(request)
    given = is_given(request)
    change = rollback(task, body.version, op_id, if_match(request), desk_of(request), given=given)
    found, created = await _in_time(request, change, op_id)
    return _changed(request, found, op_id, created=created)


@router.delete(
    "/tasks/{task}",
    summary="Put a tombstone on top",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "Deleted", "headers": OPERATION}, **documented(404, 412, 422, 507)},
    openapi_extra=takes("If-Match", "Idempotency-Key"),
)
@needs(Access.ADMIN)
async def delete_task(request: Request, task: str) -> Response:
    op_id = operation_id(request)
    change = delete(task, op_id, if_match(request), desk_of(request), given=is_given(request))
    await _in_time(request, change, op_id)
    return Response(status_code=204, headers={"x-operation-id": op_id})


async def _in_time(request: Request, change: Coroutine[Any, Any, T], op_id: str) -> T:
    desk = desk_of(request)
    return await in_time(change, op_id, desk.settings.store_seconds, desk.room.tasks.reach.left)


async def _arrived(request: Request, task: str, query: AtLeast) -> None:
    """Wait for the version that a client knows of, where it names one."""
    if query.min_version is not None:
        await desk_of(request).room.tasks.arrived(task, query.min_version)


def _object(task: Task, desk: Desk) -> wire.Json:
    return wire.task_object(task, desk.room.tasks, desk.room.running.engine)


def _merge(value: Any) -> dict[str, Any]:
    """A patch as it stands: what is null in it is not what is left out. Raises Invalid."""
    validated(TaskPatch, value)
    found: dict[str, Any] = value
    return found


def _number(version: str) -> int:
    """A version in a path. Raises Missing: there is none of another form."""
    if version.isascii() and version.isdecimal() and len(version) <= 8 and version[0] != "0":
        return int(version)
    raise Missing("version_not_found", "the task has no such version", "version")


async def _source(request: Request, bare: dict[str, Any]) -> bytes | dict[str, Any]:
    """A file's bytes, or a text task. A body without a type is a file: `curl -T` sends none."""
    settings = request.app.state.settings
    kind = media_type(request)
    if kind not in {"", "application/octet-stream", "application/json"}:
        raise Unsupported("unsupported_media_type", "a task is application/octet-stream or application/json")
    is_json = kind == "application/json"
    limit = settings.max_body_bytes if is_json else settings.max_upload_bytes
    data = await read_bytes(request, limit, settings.receive_seconds)
    check_content_digest(request, data)
    if not is_json:
        return data
    if bare:
        raise Invalid("invalid_request", "the query's metadata are for a bare PEFT file", next(iter(bare)))
    task = await decoded(request, data, strict(TextTask))
    return task.model_dump(exclude_unset=True)


def _changed(request: Request, task: Task, op_id: str, *, created: bool) -> Response:
    headers = {"ETag": f'"{task.digest}"', "x-operation-id": op_id}
    if created:
        headers["Location"] = f"/tasks/{task.name}/versions/{task.version}"
    return wire.answer(_object(task, desk_of(request)), 201 if created else 200, headers)
