"""A request while it runs: what has been fed, where its keys and values lie, what it has produced.

Knows no tensors. Transitions are verbs on the sequence; who runs when is the scheduler's.
"""

import logging
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from server.engine.request import Event, Finished, Request, Sink
from server.engine.residency import Resident

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Sequence:
    """`ids` are all ids known so far; the first `fed` of them have keys and values in `slot`.

    `chain` are the keys of its beginnings, `arrived` and `admitted` its places in the orders of coming and of starting.
    `source` is where the keys and values of the first ids are copied from when it starts: an array or a sequence.
    """

    request: Request
    sink: Sink
    resident: Resident | None = None
    slot: int = -1
    fed: int = 0
    cached_tokens: int = 0
    ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    branch: int = 0
    """Scoring: the first continuation whose later ids have not been fed yet."""
    done: bool = False
    unheard: bool = False
    """Its sink raised: what else it says nobody is told."""
    chain: tuple[bytes, ...] = ()
    arrived: int = 0
    admitted: int = 0
    source: Any = None
    came: float = field(default_factory=time.monotonic)
    began: float | None = None
    """In `time.monotonic`'s seconds: when it entered the queue, and the batch for the first time."""

    def __post_init__(self) -> None:
        self.ids = list(self.request.ids)

    def finished(self, reason: Literal["eos", "length", "cancelled"]) -> Finished:
        """Its terminal event."""
        return Finished(reason, self.cached_tokens, 0.0 if self.began is None else self.began - self.came)

    @property
    def group(self) -> Hashable:
        return self.request.group

    @property
    def owner(self) -> Hashable:
        return self.request.owner

    @property
    def digest(self) -> str:
        """Of its soft prompt; empty for the bare model."""
        prompt = self.resident.prompt if self.resident is not None else self.request.prompt
        return prompt.digest if prompt is not None else ""

    @property
    def is_head(self) -> bool:
        """It is a soft prompt's head alone, read ahead of all requests."""
        return self.resident is not None and self.request.prompt is None

    @property
    def prompt_length(self) -> int:
        return len(self.request.ids)

    @property
    def generated(self) -> int:
        return len(self.ids) - self.prompt_length

    @property
    def decoding(self) -> bool:
        """One id is left to feed and it was generated: the sequence is in its decode phase."""
        return self.generated > 0

    @property
    def scoring(self) -> bool:
        return bool(self.request.continuations)

    @property
    def reach(self) -> int:
        """Positions that its slot needs until the next id is chosen, never more than `most`; branches leave nothing."""
        return self.fed + 1 if self.decoding else self.prompt_length

    @property
    def most(self) -> int:
        """Positions that its slot may come to need: the last id is chosen and not fed."""
        return self.request.positions

    @property
    def prefilled(self) -> bool:
        return self.fed >= self.prompt_length

    def share(self, head: tuple[int, ...]) -> int:
        """How many leading ids can be taken from `head`'s keys and values; the last id is always fed itself."""
        limit = min(len(head), self.prompt_length - 1)
        if self.request.prompt_logprobs is not None:  # what predicts the second text id is fed
            limit = min(limit, self.request.first_text)
        shared = next((i for i in range(limit) if head[i] != self.ids[i]), limit)
        return max(shared, 0)

    def admit(self, slot: int, shared: int, source: Any) -> None:
        self.slot = slot
        self.fed = shared
        self.source = source
        self.cached_tokens = sum(1 for token in self.ids[:shared] if token >= 0)

    def end(self, event: Event) -> None:
        """Exactly one terminal event: a second one is a bug of the engine, not of the caller."""
        if self.done:
            raise RuntimeError("a request has ended twice")
        self.done = True
        if self.resident is not None:
            self.resident.users -= 1
        self.tell(event)

    def tell(self, event: Event) -> None:
        """An event for its sink, which may be gone: an event loop that has closed is no fault of the engine's."""
        if self.unheard:
            return
        try:
            self.sink.put(event)
        except Exception:
            self.unheard = True
            log.exception("nobody hears the events of a request")
