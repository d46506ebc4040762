"""The page at `/`: a shell without data that anybody may open, and fragments that need the key their data needs.

From HTTP to the store, the jobs and the templates, and nothing else. Whatever changes something goes through the API's
own routes, called by the page's scripts.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import jinja2
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from pydantic import Field, field_validator
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from prompt_store.task import MAX_VERSION, Task
from server.api.auth import Access, needs
from server.api.desk_of import desk_of
from server.api.jobs_of import jobs_of
from server.api.queries import Near, Page, Strictly
from server.api.schemas import Name
from server.api.tasks import near
from server.errors import Missing, Unavailable
from server.lookup import BARE
from server.page import assets, views
from server.publish import Desk

router = APIRouter(include_in_schema=False)
ASSETS = assets.load()
PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("server.page"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.filters.update(size=views.size, moment=views.moment, figure=views.figure, visible=views.visible)
ROWS = 50
"""Tasks of one part of the table."""
DRAWN, DRAWN_TOKENS = 200, 10
"""Pseudo-tokens and columns of a picture that somebody can still look at."""
PIECE = 64 * 2**10
"""Bytes of a script that are sent at once."""
POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
"""Everything the page runs, shows and calls is this server's own."""


DOCS_POLICY = {
    **POLICY,
    "Content-Security-Policy": POLICY["Content-Security-Policy"].replace("img-src 'self'", "img-src 'self' data:"),
}
"""The viewer of /docs draws its arrows from its style sheet."""


class Tasks(Page):
    """Which tasks of the table."""

    limit: Annotated[int, Field(ge=1, le=ROWS)] = ROWS

    @field_validator("kind", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        """A form sends every field, chosen or not."""
        return value or None


class Columns(Near):
    """How many tokens of each row are drawn."""

    k: Annotated[int, Field(ge=1, le=DRAWN_TOKENS)] = 6


class Pane(Strictly):
    """Which task, in which version, one side of the playground asks."""

    task: Name = BARE
    version: Annotated[int | None, Field(ge=1, le=MAX_VERSION)] = None


@router.get("/")
@needs(Access.OPEN)
async def shell() -> Response:
    return _html("shell")


@router.get("/docs")
@needs(Access.OPEN)
async def docs() -> Response:
    """The viewer of /openapi.json, which is asked for with the key; without data, like the shell."""
    return _html("docs", DOCS_POLICY)


@router.get("/static/{name}")
@needs(Access.OPEN)
async def static(request: Request, name: str) -> Response:
    return _file(name, request)


@router.get("/static/vendor/{name}")
@needs(Access.OPEN)
async def vendored(request: Request, name: str) -> Response:
    return _file(f"vendor/{name}", request)


@router.get("/page/tasks")
@needs(Access.GENERATE)
async def tasks(request: Request, query: Annotated[Tasks, Query()]) -> Response:
    desk = desk_of(request)
    found, more = await desk.room.tasks.reach.ask(desk.room.tasks.store.list, **query.model_dump())
    rows = [{"task": task, "metadata": task.metadata, "reason": _why_not(task, desk)} for task in found]
    return _html("tasks", rows=rows, query=query, after=found[-1].name if more else None)


@router.get("/page/tasks/{task}")
@needs(Access.GENERATE)
async def task(request: Request, task: str) -> Response:
    desk = desk_of(request)
    found = await desk.room.tasks.find(task)
    versions = await desk.room.tasks.reach.ask(desk.room.tasks.store.versions, task)
    resident = found.digest is not None and desk.room.running.engine.resident(found.digest) is not None
    return _html(
        "task", task=found, metadata=found.metadata, versions=versions, reason=_why_not(found, desk), resident=resident
    )


@router.get("/page/tasks/{task}/nearest")
@needs(Access.GENERATE)
async def nearest(request: Request, task: str, query: Annotated[Columns, Query()]) -> Response:
    kind, found = await near(desk_of(request).room, task, query)
    rows = [[token[1:] for token in row] for row in (found or [])[:DRAWN]]
    shown = None if found is None else views.picture(rows)
    return await run_sync(lambda: _html("nearest", picture=shown, kind=kind, task=task, all=len(found or [])))


@router.get("/page/pane")
@needs(Access.GENERATE)
async def pane(request: Request, query: Annotated[Pane, Query()]) -> Response:
    """A task's versions, and the fields and labels of one of them."""
    if query.task == BARE:
        return _html("pane", name=BARE, versions=[], chosen=None, fields=["input"], labels=False)
    room = desk_of(request).room
    found = await room.tasks.find(query.task, query.version)
    versions = views.runnable(await room.tasks.reach.ask(room.tasks.store.versions, query.task))
    labels = found.metadata is not None and bool(found.metadata.labels)
    return _html(
        "pane",
        name=query.task,
        versions=[version.version for version in versions],
        chosen=query.version,
        fields=views.fields_of(found),
        labels=labels,
    )


@router.get("/page/jobs")
@needs(Access.ADMIN)
async def jobs(request: Request) -> Response:
    return _html("jobs", jobs=jobs_of(request).records.all()[::-1])


@router.get("/page/jobs/{job}")
@needs(Access.ADMIN)
async def job(request: Request, job: str) -> Response:
    return _html("job", job=jobs_of(request).records.get(job))


def _file(name: str, request: Request) -> Response:
    found = ASSETS.get(name)
    if found is None:
        raise Missing("not_found", "no such route")
    headers = {**POLICY, "ETag": found.etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    size = {"content-length": str(len(found.data))}
    return StreamingResponse(_pieces(found.data), headers={**headers, **size}, media_type=found.media_type)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    """As its client takes them: the bytes are there once for all, and nobody's copy waits in memory."""
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _why_not(task: Task, desk: Desk) -> str | None:
    """The code of what keeps this server from running a version; None when it can."""
    try:
        desk.room.tasks.fitting(task)
    except Unavailable as fault:
        return fault.code
    return None


def _html(page: str, policy: Mapping[str, str] = POLICY, **shown: Any) -> Response:
    text = PAGES.get_template(f"{page}.html.jinja").render(shown)
    headers = {**policy, "Cache-Control": "no-store"}
    return Response(text.encode(), headers=headers, media_type="text/html; charset=utf-8")
