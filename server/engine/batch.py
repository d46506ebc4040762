"""One step of the schedule as tensors: ids, positions, pseudo-token rows, which logits are wanted, and the plan.

Knows sequences and the vocabulary's end; not the model.
"""

from dataclasses import dataclass, field

import torch

from server.engine.adapters import Adapter
from server.engine.plan import Plan, Segment
from server.engine.sequence import Sequence
from server.engine.step import Chunk, Step


@dataclass(slots=True)
class Batch:
    """`wanted[i]` is the sequence that row `logit_rows[i]` of the step's output predicts the next id for.

    The rows behind those are of `told`: a sequence and an id of its prompt, which the row stands in front of.

    ids, positions: int64 [1, N]; a pseudo-token's id is 0 and its embedding is replaced by a row: `rows` lists
    (index on the row, tensor [p, d], row). `adapted`: (first index, count, the adapter that these tokens use).
    """

    ids: torch.Tensor
    positions: torch.Tensor
    rows: list[tuple[int, torch.Tensor, int]]
    adapted: list[tuple[int, int, Adapter]]
    logit_rows: torch.Tensor
    wanted: list[Sequence]
    told: list[tuple[Sequence, int]]
    plan: Plan


@dataclass(slots=True)
class _Row:
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    rows: list[tuple[int, torch.Tensor, int]] = field(default_factory=list)
    logit_rows: list[int] = field(default_factory=list)
    wanted: list[Sequence] = field(default_factory=list)
    told_rows: list[int] = field(default_factory=list)
    told: list[tuple[Sequence, int]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    adapted: list[tuple[int, int, Adapter]] = field(default_factory=list)

    def adapt(self, sequence: Sequence, first: int) -> None:
        """The tokens from `first` on are this sequence's."""
        if sequence.resident is not None and sequence.resident.adapter is not None:
            self.adapted.append((first, len(self.ids) - first, sequence.resident.adapter))

    def want(self, sequence: Sequence, count: int = 1) -> None:
        """Logits of the last `count` tokens added so far."""
        end = len(self.ids)
        self.logit_rows.extend(range(end - count, end))
        self.wanted.extend([sequence] * count)

    def add_prefill(self, chunk: Chunk) -> None:
        sequence, first = chunk.sequence, len(self.ids)
        for token in sequence.ids[chunk.start : chunk.start + chunk.count]:
            if token < 0 and sequence.resident is not None:
                self.rows.append((len(self.ids), sequence.resident.rows, ~token))
            self.ids.append(max(token, 0))
        end = chunk.start + chunk.count
        self.adapt(sequence, first)
        self.positions.extend(range(chunk.start, end))
        self.segments.append(Segment(sequence.slot, first, chunk.count, chunk.start))
        if sequence.request.prompt_logprobs is not None:
            self.tell(sequence, chunk.start, end, first)
        if end == sequence.prompt_length and (sequence.scoring or sequence.request.sampling.max_new_tokens):
            self.want(sequence)

    def tell(self, sequence: Sequence, start: int, end: int, first: int) -> None:
        """Logits in front of every text id but the first; the token of place `start` is the row's `first`."""
        ids = sequence.request.ids
        for at in range(max(start, sequence.request.first_text), min(end, len(ids) - 1)):
            if ids[at + 1] >= 0:
                self.told_rows.append(first + at - start)
                self.told.append((sequence, ids[at + 1]))

    def add_branches(self, chunk: Chunk) -> None:
        sequence, first = chunk.sequence, len(self.ids)
        branches = [c[:-1] for c in sequence.request.continuations[chunk.start : chunk.start + chunk.count]]
        for branch in branches:
            self.ids.extend(branch)
            self.positions.extend(range(sequence.fed, sequence.fed + len(branch)))
        self.adapt(sequence, first)
        count = len(self.ids) - first
        lengths = tuple(len(branch) for branch in branches)
        self.segments.append(Segment(sequence.slot, first, count, sequence.fed, lengths))
        self.want(sequence, count)


def build(step: Step, span: int, device: torch.device, tile: int | None = None) -> Batch:
    """The tensors of one forward pass: decodes first, in slot order, then the chunks. `span`: the K/V cache's.

    With a `tile` the row is filled up to so many tokens, whoever runs: shapes then tell nothing of the neighbours.
    """
    row = _Row()
    for sequence in step.decodes:
        row.ids.append(sequence.ids[-1])
        row.adapt(sequence, len(row.ids) - 1)
        row.positions.append(sequence.fed)
        row.want(sequence)
    decodes = len(row.ids)
    for chunk in step.prefills:
        if chunk.branches:
            row.add_branches(chunk)
        else:
            row.add_prefill(chunk)
    if tile is not None:
        row.ids.extend([0] * (tile - len(row.ids)))
        row.positions.extend([0] * (tile - len(row.positions)))
    slots = [sequence.slot for sequence in step.decodes]
    high = max(slots, default=-1) + 1
    plan = Plan(
        decodes=decodes,
        slots=torch.tensor(slots, dtype=torch.int64, device=device),
        positions=torch.tensor(row.positions[:decodes], dtype=torch.int64, device=device),
        high=high,
        span=span,
        dense=high == decodes,
        segments=row.segments,
        apart=tile is not None,
    )
    return Batch(
        ids=torch.tensor([row.ids], device=device),
        positions=torch.tensor([row.positions], device=device),
        rows=row.rows,
        adapted=row.adapted,
        logit_rows=torch.tensor(row.logit_rows + row.told_rows, dtype=torch.int64, device=device),
        wanted=row.wanted,
        told=row.told,
        plan=plan,
    )
