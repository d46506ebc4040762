"""THE REQUEST PATH: task lookup -> template -> tokens -> engine -> stream of events.

Knows tasks, text and the engine; no HTTP. `generate` is the path, top to bottom; the rest are its steps.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from prompt_store.template import Composed
from server.account import account
from server.engine.request import Finished, PromptEvent, Request, Sampling, TokenEvent, Told
from server.errors import KNOWN, Broken, Invalid, Late, as_fault
from server.lookup import BARE, Served
from server.metrics import OTHER, Meter
from server.parameters import MAX_NEW_TOKENS, MAX_SEED, Parameters
from server.rendering import Exact, Inputs, Room, check_room, render
from server.stopping import Stopping
from server.writing import Ending, FinishReason, Piece, Writer


@dataclass(frozen=True, slots=True)
class Item:
    """One generation that a client asks for. `id` is the request's, for the engine and the log.

    `unset`: what counts where neither the client nor the task says. `echo`: the prompt is told too, with its logprobs
    where logprobs are asked for; `only_prompt`: nothing is generated behind it. `caller`: whose it is, as far as
    that is known; callers share the engine fairly.
    """

    id: str
    inputs: Inputs | Exact
    task: str | None = None
    version: int | None = None
    min_version: int | None = None
    truncate: int | None = None
    parameters: Parameters = field(default_factory=Parameters)
    streamed: bool = False
    unset: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    echo: bool = False
    only_prompt: bool = False
    caller: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Ids of text with BOS, pseudo-tokens, ids whose keys and values were there already, ids generated."""

    prompt_tokens: int
    soft_tokens: int
    cached_tokens: int
    completion_tokens: int
    truncated_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """The prompt of a choice has been read. `told`: its text ids but the first, of an echo with logprobs."""

    choice: int
    composed: Composed
    told: Sequence[Told]


@dataclass(frozen=True, slots=True)
class Choice:
    text: str
    finish_reason: FinishReason
    pieces: list[Piece]
    read: Read


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of every generation that did not fail. `queued`: seconds that its first choice waited for the batch."""

    served: Served
    choices: list[Choice]
    usage: Usage
    seed: int
    logprobs: bool
    queued: float = 0.0


Step = Read | Piece | Answer


RequestPath = Callable[[Item, Room], AsyncGenerator[Step, None]]


def metered(path: RequestPath) -> RequestPath:
    """The same steps, and what they took is counted."""

    async def counted(item: Item, room: Room) -> AsyncGenerator[Step, None]:
        began, first, last = time.monotonic(), 0.0, 0.0
        told = account()
        told.streamed |= item.streamed
        left = Left(item.task or BARE)
        try:
            async with aclosing(path(item, room)) as steps:
                async for step in steps:
                    left.saw(step)
                    if isinstance(step, Piece):
                        told.token(now := time.monotonic())
                        if step.choice == 0:
                            first, last = first or now, now
                    elif isinstance(step, Answer):
                        _count(step, first - began, last - first, time.monotonic() - began, room.meter)
                    yield step
        except KNOWN as error:
            code = as_fault(error).code
            room.meter.failed(code)
            told.failed(code)
            left.count(room.meter)
            raise
        except (GeneratorExit, asyncio.CancelledError):
            if not left.answered:
                room.meter.cancelled(left.task if left.read else OTHER)
            left.count(room.meter)
            raise

    return counted


@dataclass(slots=True)
class Left:
    """What a generation that came to no answer has read and made all the same. `read` says that the task is there."""

    task: str
    read: Read | None = None
    generated: int = 0
    answered: bool = False

    def saw(self, step: Step) -> None:
        if isinstance(step, Read):
            self.read = self.read or step
        elif isinstance(step, Piece):
            self.generated += 1
        else:
            self.answered = True

    def count(self, meter: Meter) -> None:
        if self.answered or self.read is None:
            return
        composed = self.read.composed
        account().read(composed.prompt_tokens, composed.soft_tokens, 0)
        meter.tokens(self.task, composed.prompt_tokens, composed.soft_tokens, 0, self.generated)


def _count(answer: Answer, until_first: float, between: float, whole: float, meter: Meter) -> None:
    """Seconds: to the first token, from there to the last, and in all."""
    name, usage, tokens = answer.served.name, answer.usage, len(answer.choices[0].pieces)
    account().read(usage.prompt_tokens, usage.soft_tokens, usage.cached_tokens)
    account().ended(answer.queued, [choice.finish_reason for choice in answer.choices])
    if tokens:
        meter.first_token(name, until_first)
    reasons = (choice.finish_reason for choice in answer.choices)
    meter.ended(name, whole, answer.queued, between / (tokens - 1) if tokens > 1 else None, reasons)
    meter.tokens(name, usage.prompt_tokens, usage.soft_tokens, usage.cached_tokens, usage.completion_tokens)


@metered
async def generate(item: Item, room: Room) -> AsyncGenerator[Step, None]:
    """Of each choice Read, then its pieces as they come; at last the Answer. Raises Fault, PromptError or StoreError.

    Whoever stops iterating must close the iterator: that cancels what still runs.
    """
    room.running.check_room(item.caller, item.task or BARE)  # before anything is read or rendered
    timeout_ms = item.parameters.timeout_ms  # a client's alone: no task brings one
    deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
    async with in_time(deadline):
        served = await room.tasks.served(item.task, item.version, item.min_version)
        composed = await render(served, item.inputs, room, item.truncate)
    parameters = item.parameters.over({**item.unset, **served.metadata.defaults})
    sampling = settle(item, served, parameters, composed, room)

    choices = range(parameters.n or 1)
    requests = [_request(item, served, composed, _choice(sampling, index), deadline) for index in choices]
    writers = [_writer(item, served, parameters, composed, room, sampling, index) for index in choices]
    read: dict[int, Read] = {}
    ends: dict[int, Finished] = {}
    async with room.running.events(requests) as events:
        async for index, event in events:
            writer = writers[index]
            if isinstance(event, PromptEvent):
                writer.read(event)
                continue
            if index not in read:
                read[index] = Read(index, composed, writer.told)
                yield read[index]
            if isinstance(event, Finished):
                ends[index] = event
            elif isinstance(event, TokenEvent) and not writer.over:
                piece = writer.write(event)
                if writer.stopped:
                    room.running.engine.cancel(requests[index].id)
                yield piece

    finished = [_finish(writers[index], ends[index], read[index]) for index in choices]
    usage = _usage(item, composed, ends[0], finished)
    told = parameters.logprobs is not None
    yield Answer(served, finished, usage, sampling.seed, told, ends[0].queued)


async def answer(item: Item, room: Room) -> Answer:
    """The end of one generation; whoever is cancelled here cancels it."""
    async with aclosing(generate(item, room)) as steps:
        async for step in steps:
            if isinstance(step, Answer):
                return step
    raise Broken("internal", "the generation ended without an answer")


@asynccontextmanager
async def in_time(deadline: float | None) -> AsyncIterator[None]:
    """Raises Late when what is inside is not done at `deadline`, in `time.monotonic`'s seconds."""
    try:
        async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
            yield
    except TimeoutError:
        raise Late("timeout", "timeout_ms has passed", "timeout_ms") from None


def settle(item: Item, served: Served, parameters: Parameters, composed: Composed, room: Room) -> Sampling:
    """What the engine is told. `max_new_tokens` is cut to the room left only when nobody set it."""
    engine = room.running.engine
    room_left = engine.max_total_tokens - composed.prompt_tokens - composed.soft_tokens
    new_tokens = parameters.max_new_tokens or max(1, min(MAX_NEW_TOKENS, room_left))
    if item.only_prompt:
        new_tokens = 0
    check_room(served, composed, new_tokens, engine.max_total_tokens)
    if (parameters.top_k or 0) > engine.vocab_size:
        raise Invalid("invalid_request", f"must be at most the vocabulary, {engine.vocab_size}", "parameters.top_k")
    seed = secrets.randbelow(MAX_SEED + 1) if parameters.seed is None else parameters.seed
    return Sampling(
        max_new_tokens=new_tokens,
        temperature=parameters.temperature or 0.0,
        top_k=parameters.top_k or 0,
        top_p=1.0 if parameters.top_p is None else parameters.top_p,
        min_p=parameters.min_p or 0.0,
        repetition_penalty=1.0 if parameters.repetition_penalty is None else parameters.repetition_penalty,
        seed=seed,
        logprobs=0 if item.streamed and parameters.logprobs is None else parameters.logprobs,
        ignore_eos=parameters.ignore_eos or False,
    )


def _choice(sampling: Sampling, index: int) -> Sampling:
    return sampling if index == 0 else replace(sampling, choice=index)


def _request(item: Item, served: Served, composed: Composed, sampling: Sampling, deadline: float | None) -> Request:
    """For the engine: one of each choice."""
    told = sampling.logprobs if item.echo else None
    return Request(
        f"{item.id}/{sampling.choice}", composed.ids, sampling, served.prompt, deadline, group=served.name,
        owner=item.caller, prompt_logprobs=told,
    )  # fmt: skip


def _writer(  # noqa: PLR0913, PLR0917 - all that an answer depends on
    item: Item, served: Served, parameters: Parameters, composed: Composed, room: Room, sampling: Sampling, choice: int
) -> Writer:
    """What is behind a prompt that is exact, or told as well, is told as it is, delimiter and all."""
    eos_ids = frozenset[int]() if sampling.ignore_eos else room.running.engine.base.eos_ids
    text_ids = [index for index in composed.ids if index >= 0]
    delimiter = "" if item.echo or isinstance(item.inputs, Exact) else served.metadata.target_delimiter
    stopping = Stopping(delimiter, tuple(parameters.stop or ()))
    return Writer(room.tokenizer, text_ids, stopping, Ending(eos_ids, sampling.max_new_tokens), choice)


def _finish(writer: Writer, end: Finished, read: Read) -> Choice:
    if end.reason == "cancelled" and not writer.stopped:
        raise Broken("internal", "the generation was cut off")
    return Choice(writer.text, writer.finish or "length", writer.pieces, read)


def _usage(item: Item, composed: Composed, end: Finished, choices: Sequence[Choice]) -> Usage:
    return Usage(
        prompt_tokens=composed.prompt_tokens,
        soft_tokens=composed.soft_tokens,
        cached_tokens=end.cached_tokens,
        completion_tokens=sum(len(choice.pieces) for choice in choices),
        truncated_tokens=None if item.truncate is None else composed.cut,
    )
