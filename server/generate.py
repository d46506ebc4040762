"""THE REQUEST PATH: task lookup -> template -> tokens -> engine -> stream of events.

Knows tasks, text and the engine; no HTTP. `generate` is the path, top to bottom; the rest are its steps.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from prompt_store.template import Composed, characters, compose
from server.engine.request import Finished, Request, Sampling, TokenEvent
from server.errors import Broken, Invalid, Late
from server.lookup import Served, Tasks
from server.parameters import MAX_NEW_TOKENS, MAX_SEED, Parameters
from server.running import Running
from server.stopping import Stopping
from server.tokenizer import Tokenizer
from server.writing import Ending, Piece, Writer

Inputs = str | Mapping[str, str]
LONG_CHARACTERS = 2**18


@dataclass(frozen=True, slots=True)
class Room:
    """What the request path works with; built once."""

    tasks: Tasks
    running: Running
    tokenizer: Tokenizer
    long_texts: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))


@dataclass(frozen=True, slots=True)
class Item:
    """One generation that a client asks for. `id` is the request's, for the engine and the log."""

    id: str
    inputs: Inputs
    task: str | None = None
    version: int | None = None
    min_version: int | None = None
    truncate: int | None = None
    parameters: Parameters = field(default_factory=Parameters)
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Ids of text with BOS, pseudo-tokens, ids whose keys and values were there already, ids generated."""

    prompt_tokens: int
    soft_tokens: int
    cached_tokens: int
    completion_tokens: int
    truncated_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    text: str
    finish_reason: str
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of every generation that did not fail."""

    served: Served
    choices: list[Choice]
    usage: Usage
    seed: int
    logprobs: bool


async def generate(item: Item, room: Room) -> AsyncGenerator[Piece | Answer, None]:
    """Pieces of the first choice but its last, then the Answer. Raises Fault, PromptError or StoreError.

    Whoever stops iterating must close the iterator: that cancels what still runs.
    """
    timeout_ms = item.parameters.timeout_ms  # a client's alone: no task brings one
    deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
    async with in_time(deadline):
        served = await room.tasks.served(item.task, item.version, item.min_version)
        composed = await render(served, item.inputs, room, item.truncate)
    parameters = item.parameters.over(served.metadata.defaults)
    sampling = settle(served, parameters, composed, room, streamed=item.streamed)

    choices = range(parameters.n or 1)
    requests = [
        Request(
            f"{item.id}/{index}", composed.ids, _choice(sampling, index), served.prompt, deadline, group=served.name
        )
        for index in choices
    ]
    writers = [_writer(served, parameters, composed, room, sampling) for _ in choices]
    ends: dict[int, Finished] = {}
    async with room.running.events(requests) as events:
        async for index, event in events:
            writer = writers[index]
            if isinstance(event, Finished):
                ends[index] = event
            elif isinstance(event, TokenEvent) and not writer.over:
                piece = writer.write(event)
                if writer.stopped:
                    room.running.engine.cancel(requests[index].id)
                elif index == 0 and not writer.over:
                    yield piece

    usage = Usage(
        prompt_tokens=composed.prompt_tokens,
        soft_tokens=composed.soft_tokens,
        cached_tokens=ends[0].cached_tokens,
        completion_tokens=sum(len(writer.pieces) for writer in writers),
        truncated_tokens=None if item.truncate is None else composed.cut,
    )
    finished = [_finish(writers[index], ends[index]) for index in choices]
    yield Answer(served, finished, usage, sampling.seed, logprobs=parameters.logprobs is not None)


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


async def render(served: Served, inputs: Inputs, room: Room, truncate: int | None = None) -> Composed:
    """The ids of a request. Raises Invalid or InputsError.

    A text that cannot fit however few ids it has is refused unread, and long ones take turns: an id costs a tokenizer
    hundreds of bytes while it works.
    """
    fields = fields_of(served, inputs)
    length, context = characters(served.template, fields), room.running.engine.max_total_tokens
    if truncate is None and length > context * room.tokenizer.longest:
        raise Invalid(
            "context_length_exceeded", f"an input of {length} characters has more than {context} tokens", "inputs"
        )
    work = partial(compose, served.template, fields, room.tokenizer.encode, room.tokenizer.bos, truncate=truncate)
    return await run_sync(work, limiter=room.long_texts if length > LONG_CHARACTERS else None)


def fields_of(served: Served, inputs: Inputs) -> Mapping[str, str]:
    """Inputs by field; a bare string is the value of the only one."""
    fields = served.template.fields
    if not isinstance(inputs, str):
        if served.task is None:
            raise Invalid("invalid_request", "the bare base takes its inputs as one string", "inputs")
        return inputs
    if len(fields) != 1:
        raise Invalid("invalid_request", f"inputs must be an object with the fields {list(fields)}", "inputs")
    return {fields[0]: inputs}


def check_room(served: Served, composed: Composed, new_tokens: int, context: int) -> None:
    """Everything of a request fits the context, and there is something to run. Raises Invalid with the counts."""
    if not composed.prompt_tokens and (served.metadata.kind == "prefix" or not composed.soft_tokens):
        raise Invalid(
            "empty_prompt", "there is nothing to run: no text, no BOS, no pseudo-tokens that are fed", "inputs"
        )
    total = composed.prompt_tokens + composed.soft_tokens + new_tokens
    if total > context:
        raise Invalid(
            "context_length_exceeded",
            f"input {composed.prompt_tokens} + soft prompt {composed.soft_tokens} + max_new_tokens {new_tokens}"
            f" = {total} tokens > {context}",
            "inputs",
        )


def settle(served: Served, parameters: Parameters, composed: Composed, room: Room, *, streamed: bool) -> Sampling:
    """What the engine is told. `max_new_tokens` is cut to the room left only when nobody set it."""
    engine = room.running.engine
    room_left = engine.max_total_tokens - composed.prompt_tokens - composed.soft_tokens
    new_tokens = parameters.max_new_tokens or max(1, min(MAX_NEW_TOKENS, room_left))
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
        logprobs=0 if streamed and parameters.logprobs is None else parameters.logprobs,
        ignore_eos=parameters.ignore_eos or False,
    )


def _choice(sampling: Sampling, index: int) -> Sampling:
    return sampling if index == 0 else replace(sampling, choice=index)


def _writer(served: Served, parameters: Parameters, composed: Composed, room: Room, sampling: Sampling) -> Writer:
    eos_ids = frozenset[int]() if sampling.ignore_eos else room.running.engine.base.eos_ids
    text_ids = [index for index in composed.ids if index >= 0]
    stopping = Stopping(served.metadata.target_delimiter, tuple(parameters.stop or ()))
    return Writer(room.tokenizer, text_ids, stopping, Ending(eos_ids, sampling.max_new_tokens))


def _finish(writer: Writer, end: Finished) -> Choice:
    if writer.stopped:
        return Choice(writer.text, "stop_sequence", writer.pieces)
    if end.reason == "cancelled":
        raise Broken("internal", "the generation was cut off")
    return Choice(writer.text, "eos_token" if end.reason == "eos" else "length", writer.pieces)
