"""What both of OpenAI's routes do with a request: names in their words, one answer or a stream of chunks.

Knows the request path and OpenAI's envelope; how a choice looks is its route's `Form`.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Protocol

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from server.api import wire
from server.api.desk_of import desk_of
from server.api.disconnect import while_connected
from server.api.sse import EventStream
from server.api.v1.bodies import Sampled, StreamOptions
from server.api.v1.merged import gathered, merged
from server.api.v1.wire import Counts, Envelope
from server.errors import KNOWN, Fault, Missing, as_fault
from server.generate import Choice, Item, Read, Step, answer, generate
from server.lookup import BARE
from server.rendering import Room
from server.writing import Piece

DONE = "[DONE]"
UNKNOWN = "no such model: GET /v1/models lists what there is"


class Form(Protocol):
    """How the choices of a route look. `index`: of the choice among all of the request."""

    def begun(self, index: int, read: Read) -> list[wire.Json]:
        """What a stream says of a choice before its first token."""

    def piece(self, index: int, piece: Piece) -> wire.Json:
        """One token of a stream."""

    def end(self, index: int, choice: Choice) -> wire.Json:
        """What a stream says of a choice without tokens."""

    def whole(self, index: int, choice: Choice) -> wire.Json:
        """A choice at once."""


def task_of(model: str) -> str:
    """`base:task` is the task."""
    return model.removeprefix(f"{BARE}:")


async def answered(request: Request, body: Sampled, items: Sequence[Item], form: Form, envelope: Envelope) -> Response:
    """The whole request, or its stream."""
    desk = desk_of(request)
    turns = asyncio.Semaphore(max(1, request.app.state.settings.max_waiting // (4 * (body.n or 1))))
    if not body.stream:
        return wire.answer(await while_connected(request.receive, _whole(items, desk.room, form, envelope, turns)))
    streams = [generate(item, desk.room) for item in items]
    events = _chunks(merged(streams, turns), body.n or 1, form, envelope, body.usage_in)

    async def first() -> wire.Json | str:
        return await anext(events)

    started = await while_connected(request.receive, first())
    return EventStream(started, events)


async def _whole(
    items: Sequence[Item], room: Room, form: Form, envelope: Envelope, turns: asyncio.Semaphore
) -> wire.Json:
    with in_their_words():
        answers = await gathered([partial(answer, item, room) for item in items], turns)
    counts = Counts()
    for one in answers:
        counts.add(one)
    choices = [choice for one in answers for choice in one.choices]

    def told() -> list[wire.Json]:
        return [form.whole(index, choice) for index, choice in enumerate(choices)]

    long = any(choice.read.told for choice in choices)  # whole prompts with their logprobs: not on the loop
    return envelope.around(await run_sync(told) if long else told(), counts.said())


async def _chunks(
    steps: AsyncGenerator[tuple[int, Step], None], n: int, form: Form, envelope: Envelope, options: StreamOptions
) -> AsyncGenerator[wire.Json | str, None]:
    """A chunk a token. What goes wrong after the first one can only be told in an event."""
    counts, begun = Counts(), False
    try:
        with in_their_words():
            async with aclosing(steps):
                async for number, step in steps:
                    for choice in _told(number * n, step, form, counts):
                        usage = counts.said() if options.continuous_usage_stats else None
                        yield envelope.around([choice], usage, told=options.include_usage)
                        begun = True
    except KNOWN as error:
        if not begun:
            raise
        yield wire.error(as_fault(error))
        return
    if options.include_usage:
        yield envelope.around([], counts.said())
    yield DONE


def _told(first: int, step: Step, form: Form, counts: Counts) -> list[wire.Json]:
    """What a step adds to the stream; `first` is the index of its prompt's first choice."""
    if isinstance(step, Read):
        counts.read(step)
        return form.begun(first + step.choice, step)
    if isinstance(step, Piece):
        counts.completion += 1
        return [form.piece(first + step.choice, step)]
    counts.cached += step.usage.cached_tokens
    silent = [(index, choice) for index, choice in enumerate(step.choices) if not choice.pieces]
    return [form.end(first + index, choice) for index, choice in silent]


@contextmanager
def in_their_words() -> Iterator[None]:
    """Fields that OpenAI's clients know by another name."""
    try:
        yield
    except KNOWN as error:
        raise _theirs(as_fault(error)) from None


def _theirs(fault: Fault) -> Fault:
    if fault.code == "task_not_found":
        return Missing("model_not_found", UNKNOWN, "model")
    names = {"inputs": "prompt", "task": "model"}
    if fault.param is not None:
        fault.param = names.get(fault.param, fault.param.removeprefix("parameters."))
    return fault
