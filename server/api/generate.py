"""/generate, /generate_stream, /classify and /render: from HTTP to the request path and back, and nothing else."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from server.api import wire
from server.api.answers import Classified, ClassifiedMany, Generated, GeneratedMany, Rendered, StreamEvent
from server.api.auth import Access, caller_of, needs
from server.api.body import read_json, strict, validated
from server.api.desk_of import desk_of
from server.api.disconnect import while_connected
from server.api.errors import documented
from server.api.openapi import accepts, streams
from server.api.schemas import (
    ClassifyItem,
    ClassifyMany,
    GenerateItem,
    GenerateMany,
    GenerateOne,
    RenderOne,
)
from server.api.sse import EventStream
from server.api.turnstile import asks_engine
from server.classify import Question, classify
from server.errors import KNOWN, Broken, Invalid, as_fault
from server.generate import Answer, Item, answer, generate
from server.rendering import Room, check_room, render
from server.writing import Piece

router = APIRouter(tags=["generate"])
FAILURES = (404, 408, 413, 415)
REFUSALS = (*FAILURES, 429)
"""Of what the engine is asked."""

One = TypeVar("One", bound=BaseModel)
Batch = TypeVar("Batch", bound=BaseModel)
Many = TypeVar("Many", bound=BaseModel)
Caller = int | None
Work = Callable[[Many, Room, Caller], Awaitable[wire.Json]]


@router.post(
    "/generate",
    summary="Continue a text, with a task's soft prompt or without",
    response_model=Generated | GeneratedMany,
    responses={**streams(StreamEvent), **documented(*REFUSALS)},
    openapi_extra=accepts(GenerateOne, GenerateMany),
)
@needs(Access.GENERATE)
@asks_engine("task")
async def generate_route(request: Request) -> Response:
    asked = await read_json(request, _one_or_many(GenerateOne, GenerateMany))
    if isinstance(asked, GenerateMany):
        return await _many(request, asked.requests, _answered)
    return await (_stream(request, asked) if asked.stream else _one(request, asked, _answered))


@router.post(
    "/generate_stream",
    summary="The same as server-sent events, one for each token",
    response_class=Response,
    responses={**streams(StreamEvent), **documented(*REFUSALS)},
    openapi_extra=accepts(GenerateOne),
)
@needs(Access.GENERATE)
@asks_engine("task")
async def generate_stream_route(request: Request) -> Response:
    return await _stream(request, await read_json(request, strict(GenerateOne)))


@router.post(
    "/classify",
    summary="Which label fits best behind the prompt",
    response_model=Classified | ClassifiedMany,
    responses=documented(*REFUSALS),
    openapi_extra=accepts(ClassifyItem, ClassifyMany),
)
@needs(Access.GENERATE)
@asks_engine("task")
async def classify_route(request: Request) -> Response:
    asked = await read_json(request, _one_or_many(ClassifyItem, ClassifyMany))
    if isinstance(asked, ClassifyMany):
        return await _many(request, asked.requests, _classified)
    return await _one(request, asked, _classified)


@router.post(
    "/render",
    summary="What would be sent to the model; nothing is generated",
    response_model=Rendered,
    responses=documented(*FAILURES),
    openapi_extra=accepts(RenderOne),
)
@needs(Access.GENERATE)
async def render_route(request: Request) -> Response:
    asked = await read_json(request, strict(RenderOne))
    room = _room(request)
    served = await room.tasks.served(asked.task, asked.version, asked.min_version)
    composed = await render(served, asked.inputs, room, asked.truncate)
    context = room.running.engine.max_total_tokens
    check_room(served, composed, 0, context)
    return wire.answer(wire.rendered(served, composed, context, truncated=asked.truncate is not None))


def _room(request: Request) -> Room:
    return desk_of(request).room


def _one_or_many(one: type[One], many: type[Batch]) -> Callable[[Any], One | Batch]:
    """For `read_json`: what has `requests` is many."""

    def read(value: Any) -> One | Batch:
        is_many = isinstance(value, dict) and "requests" in value
        return validated(many, value) if is_many else validated(one, value)

    return read


def _item(asked: GenerateItem, caller: Caller, *, streamed: bool = False) -> Item:
    return Item(
        id=secrets.token_hex(8),
        inputs=asked.inputs,
        task=asked.task,
        version=asked.version,
        min_version=asked.min_version,
        truncate=asked.truncate,
        parameters=asked.parameters,
        streamed=streamed,
        caller=caller,
    )


async def _answered(asked: GenerateItem, room: Room, caller: Caller) -> wire.Json:
    return wire.generated(await answer(_item(asked, caller), room), room.tokenizer)


async def _classified(asked: ClassifyItem, room: Room, caller: Caller) -> wire.Json:
    labels = None if asked.labels is None else tuple(asked.labels)
    question = Question(
        secrets.token_hex(8), asked.inputs, asked.task, asked.version, asked.min_version, labels, caller
    )
    return wire.classified(await classify(question, room))


async def _one(request: Request, asked: Many, work: Work[Many]) -> Response:
    async def answered() -> wire.Json:
        return await work(asked, _room(request), caller_of(request))

    return wire.answer(await while_connected(request.receive, answered()))


async def _many(request: Request, asked: list[Many], work: Work[Many]) -> Response:
    """All at once, short of what would fill the engine's queue alone; what an item raises stands in its place.

    Raises TooMany or Unavailable where there is no room for any.
    """
    _room(request).running.check_room(caller_of(request))
    choices = max(getattr(getattr(one, "parameters", None), "n", None) or 1 for one in asked)
    turns = asyncio.Semaphore(max(1, request.app.state.settings.max_waiting // (4 * choices)))

    async def item(one: Many) -> wire.Json:
        try:
            async with turns:
                return await work(one, _room(request), caller_of(request))
        except KNOWN as error:
            return wire.error(as_fault(error))

    async def all_items() -> list[wire.Json]:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(item(one)) for one in asked]
        return [task.result() for task in running]

    return wire.answer({"responses": await while_connected(request.receive, all_items())})


async def _stream(request: Request, asked: GenerateOne) -> Response:
    if (asked.parameters.n or 1) > 1:
        raise Invalid("invalid_request", "several choices cannot be streamed", "parameters.n")
    events = _events(_item(asked, caller_of(request), streamed=True), _room(request))

    async def first() -> wire.Json:
        return await anext(events)

    started = await while_connected(request.receive, first())
    return EventStream(started, events)


async def _events(item: Item, room: Room) -> AsyncGenerator[wire.Json, None]:
    """One event a token. What goes wrong after the first one can only be told in an event."""
    begun = False
    try:
        async with aclosing(generate(item, room)) as steps:
            async for step in steps:
                if isinstance(step, Answer) or (isinstance(step, Piece) and step.finish is None):
                    yield _event(step, room)
                    begun = True
    except KNOWN as error:
        if not begun:
            raise
        yield wire.error(as_fault(error))


def _event(step: Piece | Answer, room: Room) -> wire.Json:
    """The last piece comes with the answer."""
    if isinstance(step, Piece):
        return wire.stream_event(step)
    pieces = step.choices[0].pieces
    if not pieces:
        raise Broken("internal", "the generation ended without a token")
    return wire.stream_event(pieces[-1], wire.generated(step, room.tokenizer))
