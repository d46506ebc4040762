"""Who runs in the next forward pass: every decode, then chunks of prefills, first come first served.

Knows ids, slots and budgets; no tensors, no threads. A soft prompt's head is prefilled once, as a sequence of its own,
and the requests that wait for it do not hold up those behind them.
"""

from collections import deque
from dataclasses import dataclass, field

from server.engine.request import Request, Sampling, Sink
from server.engine.residency import Residency, Resident
from server.engine.sequence import Sequence
from server.engine.slots import Move, Slots


@dataclass(frozen=True, slots=True)
class Chunk:
    """Feed ids[start : start + count] of a sequence; scoring branches feed continuations[start : start + count]."""

    sequence: Sequence
    start: int
    count: int
    branches: bool = False


@dataclass(slots=True)
class Step:
    """One forward pass. `admitted` sequences first get their shared head copied into their slot.

    Slots 0 .. `high` - 1 may be held; none of them will need more than `reach` positions for what it has to be fed.
    """

    decodes: list[Sequence] = field(default_factory=list)
    prefills: list[Chunk] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    high: int = 0
    reach: int = 0

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)

    def sequences(self) -> list[Sequence]:
        """Each is in one step once."""
        return [*self.decodes, *(chunk.sequence for chunk in self.prefills)]


class HeadSink:
    """Where a head's own sequence ends: nobody listens."""

    def put(self, event: object, /) -> None:
        """Events of a head are the engine's own business."""


def branch_tokens(continuation: tuple[int, ...]) -> int:
    """How many ids of a continuation are fed: its last id is only scored."""
    return len(continuation) - 1


class Scheduler:
    """`max_tokens` bounds the ids of one forward pass: a long input never stops the others for longer than that."""

    def __init__(self, slots: int, max_tokens: int, residency: Residency) -> None:
        self.slots = Slots(slots)
        self.waiting: deque[Sequence] = deque()
        self._heads: dict[str, Sequence] = {}
        self._max_tokens = max_tokens
        self._residency = residency

    @property
    def busy(self) -> bool:
        return bool(self.waiting or len(self.slots))

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def load(self, resident: Resident, sink: Sink) -> None:
        """Queue the prefill of a resident's head, in front of the requests that need it."""
        digest = resident.prompt.digest
        if resident.ready or digest in self._heads:
            return
        head = Sequence(Request(("head", digest), resident.prompt.head, Sampling(max_new_tokens=1)), sink, resident)
        resident.users += 1
        self._heads[digest] = head
        self.waiting.appendleft(head)

    def is_head(self, sequence: Sequence) -> bool:
        return sequence.resident is not None and self._heads.get(sequence.resident.prompt.digest) is sequence

    def schedule(self) -> Step:
        step = Step()
        budget = self._max_tokens
        for sequence in self.slots.sequences():
            if sequence.decoding:
                step.decodes.append(sequence)
        budget -= len(step.decodes)
        for sequence in self.slots.sequences():
            if not sequence.decoding:
                budget -= self._feed(step, sequence, budget)
        self._admit(step, budget)
        if not step.admitted:
            step.moves = self.slots.close_holes()
        step.decodes.sort(key=lambda sequence: sequence.slot)
        step.high = self.slots.high
        step.reach = max((sequence.reach for sequence in self.slots.sequences()), default=0)
        return step

    def _admit(self, step: Step, budget: int) -> None:
        held_back: list[Sequence] = []
        while self.waiting and self.slots.free and budget > 0:
            sequence = self.waiting.popleft()
            resident = sequence.resident
            if resident is not None and not resident.ready and not self.is_head(sequence):
                self.load(resident, HeadSink())  # its head may have been dropped after a failure
                held_back.append(sequence)
                continue
            shared = 0 if resident is None else sequence.share(resident.cached)
            sequence.admit(self.slots.take(sequence), shared)
            step.admitted.append(sequence)
            budget -= self._feed(step, sequence, budget)
        self.waiting.extendleft(reversed(held_back))

    def _feed(self, step: Step, sequence: Sequence, budget: int) -> int:
        """Adds the sequence's next chunk of at most `budget` ids; how many it took."""
        if budget <= 0:
            return 0
        if not sequence.prefilled:
            count = min(sequence.prompt_length - sequence.fed, budget)
            step.prefills.append(Chunk(sequence, sequence.fed, count))
            return count
        return self._feed_branches(step, sequence, budget)

    def _feed_branches(self, step: Step, sequence: Sequence, budget: int) -> int:
        """Whole continuations, as many as fit; the first always, so that a long one cannot wait for ever."""
        continuations = sequence.request.continuations
        taken, end = 0, sequence.branch
        while end < len(continuations):
            tokens = branch_tokens(continuations[end])
            if taken and taken + tokens > budget:
                break
            taken += tokens
            end += 1
        step.prefills.append(Chunk(sequence, sequence.branch, end - sequence.branch, branches=True))
        return taken

    def finish(self, sequence: Sequence) -> None:
        """The sequence leaves its slot and every queue."""
        if sequence.slot >= 0:
            self.slots.release(sequence.slot)
            sequence.slot = -1
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence.resident is not None and self.is_head(sequence):
            del self._heads[sequence.resident.prompt.digest]
