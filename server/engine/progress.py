"""What follows from a forward pass: ids become events, ended sequences leave, heads become shared.

Knows sequences, slots and the end ids; runs nothing and waits for nothing.
"""

import math

import torch

from server.engine.kv import KVCache
from server.engine.request import Failed, Finished, PromptEvent, Scored, TokenEvent
from server.engine.residency import Residency
from server.engine.runner import Outcome
from server.engine.sampler import Choice
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.settings import Counters
from server.engine.step import Chunk, Step
from server.engine.troubles import Trouble, trouble_of

OUT_OF_MEMORY = Failed("out_of_memory", "there is no memory for the request, for now")
_NON_FINITE = Failed("non_finite", "the soft prompt or the base gave numbers that are not finite")


class Progress:
    """Moves sequences on. Every way out of the engine goes through `end`."""

    def __init__(
        self, scheduler: Scheduler, kv: KVCache, residency: Residency, eos_ids: frozenset[int], counters: Counters
    ) -> None:
        self._scheduler = scheduler
        self._kv = kv
        self._residency = residency
        self._eos_ids = eos_ids
        self._counters = counters

    def apply(self, step: Step, outcomes: list[Outcome]) -> None:
        """After the pass: count, move on, and hand out what each outcome says."""
        self._count(step)
        for sequence in step.decodes:
            sequence.fed += 1
        for chunk in step.prefills:
            if not chunk.branches:
                chunk.sequence.fed += chunk.count
                self._cover(chunk.sequence)
        for outcome in outcomes:
            if outcome.sequence.done:  # what was told of its prompt were no numbers
                continue
            if outcome.told:
                self._told(outcome.sequence, outcome.told)
            elif outcome.choice is not None:
                self._chosen(outcome.sequence, outcome.choice)
            else:
                self._scored(outcome.sequence, outcome.scores)
        for chunk in step.prefills:
            if _only_told(chunk.sequence):
                self.end(chunk.sequence, chunk.sequence.finished("length"))

    def end(self, sequence: Sequence, event: Finished | Scored | Failed) -> None:
        if not isinstance(event, Failed):
            self._keep_text(sequence)
        self._scheduler.finish(sequence)
        sequence.end(event)
        if isinstance(event, Failed):
            self._counters.failed += 1
        else:
            self._counters.finished += 1

    def fail(self, sequence: Sequence, event: Failed) -> None:
        """Ends a sequence that went wrong; with a head, all who wait for it.

        A soft prompt that gave no numbers leaves the memory: what has gone bad there is read anew.
        """
        if event is _NON_FINITE or sequence.is_head:  # before anybody is told and asks again
            self._residency.drop(sequence.digest)
            self._scheduler.texts.drop(sequence.digest)
        self.end(sequence, event)
        if sequence.is_head:
            for waiting in [s for s in self._scheduler.waiting if s.digest == sequence.digest]:
                self.end(waiting, event)

    def _cover(self, sequence: Sequence) -> None:
        """Once a head has been read, its keys and values are everybody's.

        Where there is no memory for them, a request that read them goes on with its own; the next one reads them too.
        """
        resident = sequence.resident
        if resident is None or not self._scheduler.reads_head(sequence):
            return
        length = len(resident.prompt.head)
        if sequence.fed < length:
            return
        found = self._copied(sequence, length)
        if found is not None:
            resident.cover(found)
        elif sequence.is_head:
            self.fail(sequence, OUT_OF_MEMORY)
            return
        self._scheduler.head_read(sequence)

    def _keep_text(self, sequence: Sequence) -> None:
        texts = self._scheduler.texts
        length = texts.worth_keeping(sequence) if sequence.slot >= 0 else 0
        if 0 < length <= sequence.fed:
            found = self._copied(sequence, length)
            if found is not None:
                texts.keep(sequence, length, found)

    def _copied(self, sequence: Sequence, length: int) -> torch.Tensor | None:
        """Keys and values of its first `length` ids; None where there is no memory for a copy."""
        try:
            return self._kv.copy_out(sequence.slot, length)
        except Exception as error:
            if trouble_of(error) is not Trouble.MEMORY:
                raise
            return None

    def _told(self, sequence: Sequence, told: tuple[Choice, ...]) -> None:
        if all(choice.finite for choice in told):
            tokens = tuple((choice.id, choice.logprob or 0.0, choice.top) for choice in told)
            sequence.tell(PromptEvent(tokens))
        else:
            self.fail(sequence, _NON_FINITE)

    def _chosen(self, sequence: Sequence, choice: Choice) -> None:
        if not choice.finite:
            self.fail(sequence, _NON_FINITE)
        elif sequence.is_head:
            self.end(sequence, Finished("length", 0))
        else:
            self._generated(sequence, choice)

    def _generated(self, sequence: Sequence, choice: Choice) -> None:
        sampling = sequence.request.sampling
        event = TokenEvent(sequence.generated, choice.id, choice.logprob, choice.top)
        sequence.ids.append(choice.id)
        sequence.tell(event)
        self._scheduler.generated(sequence)
        self._counters.generated += 1
        if sequence.unheard:
            self.end(sequence, sequence.finished("cancelled"))
        elif choice.id in self._eos_ids and not sampling.ignore_eos:
            self.end(sequence, sequence.finished("eos"))
        elif sequence.generated >= sampling.max_new_tokens:
            self.end(sequence, sequence.finished("length"))

    def _scored(self, sequence: Sequence, scores: tuple[float, ...]) -> None:
        continuations = sequence.request.continuations
        if not all(math.isfinite(score) for score in scores):
            self.fail(sequence, _NON_FINITE)
            return
        if not sequence.scores:
            sequence.scores = list(scores)
        else:
            for index, score in enumerate(scores, start=sequence.branch):
                sequence.scores[index] += score
            sequence.branch += len(scores)
        while sequence.branch < len(continuations) and len(continuations[sequence.branch]) == 1:
            sequence.branch += 1
        if sequence.branch == len(continuations):
            self.end(sequence, Scored(tuple(sequence.scores), sequence.cached_tokens))

    def _count(self, step: Step) -> None:
        counters = self._counters
        if step.prefills:
            counters.prefill_forwards += 1
        else:
            counters.decode_forwards += 1
        for chunk in step.prefills:
            self._count_chunk(chunk)
        digests = {s.resident.prompt.digest for s in step.sequences() if s.resident is not None}
        counters.most_digests = max(counters.most_digests, len(digests))

    def _count_chunk(self, chunk: Chunk) -> None:
        sequence, counters = chunk.sequence, self._counters
        if chunk.branches:
            return
        fed = sequence.ids[chunk.start : chunk.start + chunk.count]
        if sequence.is_head:
            counters.head_ids_fed += len(fed)
        else:
            rows = sum(1 for token in fed if token < 0)
            counters.rows_fed += rows
            counters.ids_fed += len(fed) - rows


def _only_told(sequence: Sequence) -> bool:
    """Its prompt has been read and nothing is to be generated behind it."""
    generates = sequence.scoring or sequence.is_head or sequence.request.sampling.max_new_tokens
    return sequence.prefilled and not generates and not sequence.done
