"""Which label fits best: every label's likelihood behind one shared prompt, in one request to the engine.

Knows tasks, text and the engine; no HTTP.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anyio.to_thread import run_sync

from prompt_store.template import Composed, continuations
from server.account import account
from server.engine.request import Request, Scored
from server.errors import KNOWN, Broken, Invalid, as_fault
from server.lookup import BARE, Served
from server.rendering import Inputs, Room, check_room, fields_of, render
from server.tokenizer import Tokenizer

BARE_DELIMITER = " "
"""Between prompt and label where no task says otherwise."""


@dataclass(frozen=True, slots=True)
class Question:
    """One classification that a client asks for; without `labels` the task's are meant. `caller`: whose it is."""

    id: str
    inputs: Inputs
    task: str | None = None
    version: int | None = None
    min_version: int | None = None
    labels: tuple[str, ...] | None = None
    caller: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """`logprob`: the sum of natural logs over the label's ids; `probability`: its softmax over the labels."""

    label: str
    logprob: float
    probability: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`scores`, best first, ties in the order of the labels."""

    served: Served
    scores: list[Score]


async def classify(question: Question, room: Room) -> Verdict:
    """Raises Fault, PromptError, InputsError or StoreError."""
    try:
        found = await _classify(question, room)
    except KNOWN as error:
        code = as_fault(error).code
        room.meter.failed(code)
        account().failed(code)
        raise
    room.meter.classified(found.served.name)
    return found


async def _classify(question: Question, room: Room) -> Verdict:
    room.running.check_room(question.caller, question.task or BARE)  # before anything is read or rendered
    served = await room.tasks.served(question.task, question.version, question.min_version)
    labels = question.labels or served.metadata.labels
    if not labels:
        raise Invalid("invalid_request", "the task has no labels of its own: name them", "labels")
    context = room.running.engine.max_total_tokens
    composed = await render(served, question.inputs, room)
    check_room(served, composed, 1, context)  # before the labels: each of them tokenises the whole text
    composed, found = await run_sync(_continue, served, question.inputs, labels, room.tokenizer)
    check_room(served, composed, max(map(len, found)), context)
    longest = room.running.engine.longest_continuation
    if max(map(len, found)) > longest:
        raise Invalid("invalid_request", f"in deterministic mode a label may have {longest} tokens", "labels")
    request = Request(
        question.id, composed.ids, prompt=served.prompt, continuations=found, group=served.name, owner=question.caller
    )
    async with room.running.events([request]) as events:
        async for _, event in events:
            if isinstance(event, Scored):
                account().read(composed.prompt_tokens, composed.soft_tokens, event.cached_tokens)
                return Verdict(served, ranked(labels, event.logprobs))
    raise Broken("internal", "the scoring was cut off")


def ranked(labels: Sequence[str], logprobs: Sequence[float]) -> list[Score]:
    """Scores sorted by likelihood; Python's sort keeps ties in label order."""
    best = max(logprobs)
    weights = [math.exp(logprob - best) for logprob in logprobs]
    total = sum(weights)
    scores = [
        Score(label, logprob, weight / total) for label, logprob, weight in zip(labels, logprobs, weights, strict=True)
    ]
    return sorted(scores, key=lambda score: -score.logprob)


def _continue(
    served: Served, inputs: Inputs, labels: Sequence[str], tokenizer: Tokenizer
) -> tuple[Composed, tuple[tuple[int, ...], ...]]:
    """The shared prompt and each label's ids behind it."""
    fields = fields_of(served, inputs)
    delimiter = served.metadata.target_delimiter if served.task else BARE_DELIMITER
    composed, found = continuations(served.template, fields, delimiter, labels, tokenizer.encode, tokenizer.bos)
    if not all(found):
        raise Invalid("invalid_request", "the base's tokenizer has no ids for one of the labels", "labels")
    return composed, tuple(found)
