"""Who runs in the next forward pass: every decode, then chunks of prefills, then whoever waits and finds room.

Knows ids, slots and budgets; no tensors, no threads. A soft prompt's head is read once: by a sequence of its own when
it is loaded ahead, else by its first request on the way; who waits for it does not hold up other groups.
"""

import time
from collections import deque

from server.engine.queues import FED, GENERATED, Queues
from server.engine.request import Request, Sampling, Sink
from server.engine.residency import Residency, Resident, Unloadable
from server.engine.sequence import Sequence
from server.engine.slots import GRAIN, Slots
from server.engine.step import Chunk, Step
from server.engine.texts import Beginning, Texts, chain

OVERTAKEN = 64
"""Sequences with soft prompts that may start before one whose soft prompt finds no room; then all wait until it has."""


class HeadSink:
    """Where a head's own sequence ends: nobody listens."""

    def put(self, event: object, /) -> None:
        """Events of a head are the engine's own business."""


def branch_tokens(continuation: tuple[int, ...]) -> int:
    """How many ids of a continuation are fed: its last id is only scored."""
    return len(continuation) - 1


class Scheduler:
    """`max_tokens` bounds the ids of one forward pass: a long input never stops the others for longer than that.

    With `whole` a chunk ends where a grain of its sequence does or not at all, and continuations are fed one by one:
    what a sequence is fed at a time then depends on nobody else.
    """

    def __init__(  # noqa: PLR0913 - all that decides who runs
        self,
        slots: Slots,
        max_tokens: int,
        residency: Residency,
        texts: Texts,
        waiting: Queues | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.slots = slots
        self.waiting = Queues() if waiting is None else waiting
        self.texts = texts
        self._readers: dict[str, Sequence] = {}
        self._new_heads: deque[Sequence] = deque()
        self._max_tokens = max_tokens
        self._whole = whole
        self._residency = residency
        self._roomless: Sequence | None = None
        self._overtaken = 0
        self._admitted = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self._new_heads or len(self.slots))

    def add(self, sequence: Sequence) -> None:
        if sequence.request.prompt_logprobs is None:
            sequence.chain = chain(sequence)
        self.waiting.add(sequence)

    def load(self, resident: Resident, sink: Sink) -> None:
        """Have a resident's head prefilled, in front of the requests that need it."""
        digest = resident.prompt.digest
        if resident.ready or digest in self._readers:
            return
        head = Sequence(Request(("head", digest), resident.prompt.head, Sampling(max_new_tokens=1)), sink, resident)
        resident.users += 1
        self._readers[digest] = head
        self._new_heads.append(head)

    def reads_head(self, sequence: Sequence) -> bool:
        """Whether others of its soft prompt wait for what it reads first."""
        return sequence.resident is not None and self._readers.get(sequence.resident.prompt.digest) is sequence

    def schedule(self) -> Step:
        step = Step()
        budget = self._max_tokens
        running = self.slots.sequences()
        step.decodes = [sequence for sequence in running if sequence.decoding]
        budget -= len(step.decodes)
        prefilling = [sequence for sequence in running if not sequence.decoding]
        for sequence in sorted(prefilling, key=lambda one: one.admitted):
            budget -= self._feed(step, sequence, budget)
        self._admit(step, budget)
        if not step.admitted:
            step.moves = self.slots.close_holes()
        step.decodes.sort(key=lambda sequence: sequence.slot)
        self.measure(step)
        return step

    def measure(self, step: Step) -> None:
        """What the slots that are held need, of whoever is in the step or not."""
        step.high = self.slots.high
        step.reach = max((sequence.reach for sequence in self.slots.sequences()), default=0)

    def _admit(self, step: Step, budget: int) -> None:
        """Heads first, then the groups in turn, until slots, ids or the cache's area are out.

        Who needs more of the area than is left is waited for: nobody who needs less overtakes.
        """
        if budget <= 0 or not self.slots.free:
            return
        turns = self.waiting.turns()
        while budget > 0:
            head = self._new_heads[0] if self._new_heads else None
            sequence = head or turns.first()
            if sequence is None or not self.slots.fits(sequence):
                return
            known = self._known(step, sequence)
            if known is None:
                turns.pass_over()
                continue
            if head is not None:
                self._new_heads.popleft()
            else:
                turns.take(FED * _cost(sequence, known.length))
            self._start(step, sequence, known)
            budget -= self._feed(step, sequence, budget)

    def _known(self, step: Step, sequence: Sequence) -> Beginning | None:
        """What need not be fed; None while the sequence waits, for its soft prompt or for who reads the same text."""
        if not self._hold(step, sequence):
            return None
        resident = sequence.resident
        if resident is None:
            found = Beginning(0, None)
        else:
            found = Beginning(sequence.share(resident.cached), resident.kv)
            if not resident.ready and not self._may_read(sequence, resident):
                return None
        longer = self.texts.find(sequence, found.length) or found
        return longer if longer.ready else None

    def _may_read(self, sequence: Sequence, resident: Resident) -> bool:
        """Whether the sequence reads a head that is not there yet; else it waits until somebody has."""
        digest, head = resident.prompt.digest, resident.prompt.head
        if digest in self._readers:
            return self._readers[digest] is sequence
        if self._whole or sequence.share(head) < len(head):
            self.load(resident, HeadSink())
            return False
        return True

    def _hold(self, step: Step, sequence: Sequence) -> bool:
        """The sequence's soft prompt is in memory and stays there until it ends; False when it is not, for now.

        A large one would wait for ever while small ones that are in use never leave room for it at once.
        """
        prompt = sequence.request.prompt
        if prompt is None or sequence.resident is not None:
            return True
        if self._roomless is not None and (self._roomless.done or self._roomless.resident is not None):
            self._roomless = None
        if self._roomless not in (None, sequence) and self._overtaken >= OVERTAKEN:
            return False
        try:
            sequence.resident = self._residency.hold(prompt)
        except Unloadable as error:
            self.waiting.remove(sequence)
            step.failed.append((sequence, error))
            return False
        if sequence.resident is None:
            if self._roomless is None:
                self._roomless, self._overtaken = sequence, 0
            return False
        self._overtaken += 1
        return True

    def _start(self, step: Step, sequence: Sequence, known: Beginning) -> None:
        if sequence.began is None:
            sequence.began = time.monotonic()
        sequence.admitted, self._admitted = self._admitted, self._admitted + 1
        sequence.admit(self.slots.take(sequence), known.length, known.source)
        step.admitted.append(sequence)
        if sequence.resident is not None and not sequence.resident.ready:
            self._readers[sequence.resident.prompt.digest] = sequence
        self.texts.started(sequence)

    def _feed(self, step: Step, sequence: Sequence, budget: int) -> int:
        """Adds the sequence's next chunk of at most `budget` ids; how many it took."""
        if budget <= 0:
            return 0
        if not sequence.prefilled:
            count = min(sequence.prompt_length - sequence.fed, budget)
            if self._whole:
                end = min(sequence.prompt_length, (sequence.fed // GRAIN + 1) * GRAIN)
                count = end - sequence.fed
                if count > budget:
                    return 0
            step.prefills.append(Chunk(sequence, sequence.fed, count))
            return count
        return self._feed_branches(step, sequence, budget)

    def _feed_branches(self, step: Step, sequence: Sequence, budget: int) -> int:
        """Whole continuations, as many as fit; the first always, so that a long one cannot wait for ever."""
        continuations = sequence.request.continuations
        taken, end = 0, sequence.branch
        while end < len(continuations):
            tokens = branch_tokens(continuations[end])
            if self._whole and (tokens > budget or taken):
                break
            if taken and taken + tokens > budget:
                break
            taken += tokens
            end += 1
        if end > sequence.branch:
            step.prefills.append(Chunk(sequence, sequence.branch, end - sequence.branch, branches=True))
        return taken

    def generated(self, sequence: Sequence) -> None:
        """One id more, on its group's account."""
        self.waiting.charge(sequence, GENERATED)

    def head_read(self, sequence: Sequence) -> None:
        """Its soft prompt's head is there, or will not be by this one."""
        if sequence.resident is not None and self.reads_head(sequence):
            del self._readers[sequence.resident.prompt.digest]

    def finish(self, sequence: Sequence) -> None:
        """The sequence leaves its slot and every queue."""
        self.texts.ended(sequence)
        if sequence.slot >= 0:
            self.slots.release(sequence.slot)
            sequence.slot = -1
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self.head_read(sequence)


def _cost(sequence: Sequence, known: int) -> int:
    """Ids that will be fed before the first is generated or all are scored."""
    return sequence.prompt_length - known + sum(map(branch_tokens, sequence.request.continuations))
