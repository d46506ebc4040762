# ruff: noqa: N818 - what happened reads better than SomethingError
"""What goes into the engine and what comes out: frozen requests in, a stream of events up.

Knows no HTTP, no task names and no tensors: a soft prompt is a digest, rows and the ids its requests begin with.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How ids are chosen. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off.

    `logprobs`: None computes none, n >= 0 gives the chosen id's and the n best ids' (natural logs of the raw logits).
    Choice `choice` of a request draws its noise from (seed, choice, step) alone.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    choice: int = 0
    logprobs: int | None = None
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A soft prompt as the engine sees it, under its `digest`; of its three forms a text task has none.

    `rows`: float32 [p, d]. `prefix`: float32 [L, 2, H_kv, p, D]; its requests begin with ~0 .. ~(p - 1), which are not
    fed. `adapter`: prompts float32 [L_top, p, d] of the topmost layers, and gate float32 [L_top, 1 or H].

    `head` are the ids its requests are expected to begin with, row i written ~i: they are prefilled once. It is a
    hint: every request is compared with it id by id and shares just what it has in common.
    """

    digest: str
    rows: npt.NDArray[np.float32] | None
    head: tuple[int, ...]
    prefix: npt.NDArray[np.float32] | None = None
    adapter: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None

    @property
    def nbytes(self) -> int:
        arrays = (self.rows, self.prefix, *(self.adapter or ()))
        return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """`ids`: text ids, and ~i for row i of `prompt.rows`. `deadline`: seconds of `time.monotonic()`, or None.

    Requests of one `group` start in the order they came; an owner's groups share its part, owners the engine fairly.

    With `continuations` nothing is generated: each is scored after `ids`, all over one shared prefill. With
    `prompt_logprobs` n >= 0 the text ids of `ids` are told too (`PromptEvent`), each with the n best ids in its place.
    """

    id: Hashable
    ids: tuple[int, ...]
    sampling: Sampling = Sampling()
    prompt: Prompt | None = None
    deadline: float | None = None
    continuations: tuple[tuple[int, ...], ...] = ()
    group: Hashable = None
    owner: Hashable = None
    prompt_logprobs: int | None = None

    @property
    def positions(self) -> int:
        """What its slot may come to hold; the last id is chosen or scored, not fed."""
        return len(self.ids) + (0 if self.continuations else max(self.sampling.max_new_tokens - 1, 0))

    @property
    def tokens(self) -> int:
        """What it may come to cost: every id that is fed."""
        return self.positions + sum(len(continuation) - 1 for continuation in self.continuations)

    @property
    def first_text(self) -> int:
        """Where the first text id stands; behind the last id where there is none."""
        return next((at for at, token in enumerate(self.ids) if token >= 0), len(self.ids))


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated id, EOS included; `logprob` is None and `top` empty unless the request asked for logprobs."""

    index: int
    id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


Told = tuple[int, float, tuple[tuple[int, float], ...]]
"""An id of a prompt: its logprob in its place, and the best ids there with theirs."""


@dataclass(frozen=True, slots=True)
class PromptEvent:
    """Text ids of the prompt in order, as `prompt_logprobs` asks.

    Nothing stands before the first text id but rows: it is never told. Those of one prompt may come in several events.
    """

    tokens: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The terminal event of a generation. `cached_tokens` counts text ids whose K/V was there already."""

    reason: Literal["eos", "length", "cancelled"]
    cached_tokens: int
    queued: float = field(default=0.0, compare=False)
    """Seconds from the queue to the batch."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The terminal event of a scoring: the sum of natural-log probabilities of each continuation."""

    logprobs: tuple[float, ...]
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The terminal event of a request that could not be answered; `message` names no input."""

    code: Literal["timeout", "queue_timeout", "non_finite", "internal", "draining", "out_of_memory", "engine_failed"]
    message: str


Event = TokenEvent | PromptEvent | Finished | Scored | Failed


class Sink(Protocol):
    """Where a request's events go, from the engine's thread. `queue.SimpleQueue` is one.

    One that raises ends its request: nobody hears it.
    """

    def put(self, event: Event, /) -> None: ...


class QueueFull(Exception):
    """`submit` refused: as much waits already as the settings allow. In some `seconds` there may be room."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class OwnerFull(QueueFull):
    """The same for this owner, or this group of it, alone: others still find room."""


class Closed(Exception):
    """`submit` refused: the engine is draining or has stopped."""
