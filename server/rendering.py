"""From what a client sends to the ids that the model is fed: a task's template filled, or a prompt as it stands.

Knows tasks, templates and the tokenizer; no engine but its bounds, no HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from prompt_store.template import Composed, characters, compose
from server.chat import Chat
from server.errors import Invalid
from server.lookup import Served, Tasks
from server.metrics import Meter
from server.running import Running
from server.tokenizer import Tokenizer

LONG_CHARACTERS = 2**18
"""Longer texts take turns: an id costs a tokenizer hundreds of bytes while it works."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A prompt that no template surrounds: ids as they are, or text whose special tokens count as such.

    `bos`: the tokenizer's stands in front of text, unless it begins with it.
    """

    prompt: str | tuple[int, ...]
    bos: bool = True


Inputs = str | Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Room:
    """What the request path works with; built once."""

    tasks: Tasks
    running: Running
    tokenizer: Tokenizer
    meter: Meter
    chat: Chat
    long_texts: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))


async def render(served: Served, inputs: Inputs | Exact, room: Room, truncate: int | None = None) -> Composed:
    """The ids of a request. Raises Invalid or InputsError.

    A text that cannot fit however few ids it has is refused unread, and long ones take turns.
    """
    if isinstance(inputs, Exact):
        length, work = len(inputs.prompt), partial(_exact, served, inputs, room)
    else:
        fields, tokenizer = fields_of(served, inputs), room.tokenizer
        length = characters(served.template, fields)
        work = partial(compose, served.template, fields, tokenizer.encode, tokenizer.bos, truncate=truncate)
    context = room.running.engine.max_total_tokens
    if truncate is None and length > context * room.tokenizer.longest:
        raise Invalid(
            "context_length_exceeded", f"an input of {length} characters has more than {context} tokens", "inputs"
        )
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


def _exact(served: Served, exact: Exact, room: Room) -> Composed:
    """The task's rows, then the prompt. A template that has rows behind its input says where they belong; this not."""
    if served.template.soft_behind_field:
        raise Invalid(
            "invalid_request",
            "pseudo-tokens of this task stand behind its input: send inputs, which fill its template",
            "prompt",
        )
    tokenizer, vocabulary = room.tokenizer, room.running.engine.vocab_size
    rows = tuple(~row for row in range(sum(section.rows for section in served.template.sections)))
    if not isinstance(exact.prompt, str):
        if not all(0 <= index < vocabulary for index in exact.prompt):
            raise Invalid("invalid_request", f"ids are from 0 to {vocabulary - 1}", "prompt")
        return Composed(tokenizer.decode(list(exact.prompt)), (*rows, *exact.prompt))
    ids = tokenizer.encode(exact.prompt, True) if exact.prompt else []
    lead = () if tokenizer.bos is None or not exact.bos or ids[:1] == [tokenizer.bos] else (tokenizer.bos,)
    return Composed(exact.prompt, (*rows, *lead, *ids))


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
