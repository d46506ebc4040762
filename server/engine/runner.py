"""One step, run: slots prepared, one forward pass of the base, and what it says about each sequence.

Knows tensors and sequences; decides nothing: the scheduler says who runs, the engine what follows. Whatever raises may
be tried again, with all or with fewer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from server.engine.adapters import Adapter, behind_projection, projected
from server.engine.attention import PackedAttention
from server.engine.batch import Batch, build
from server.engine.draws import Wish
from server.engine.kv import KVCache, KVShape
from server.engine.model import BaseModel
from server.engine.replays import Best, Decode, replays
from server.engine.sampler import Choice, choose, tell
from server.engine.sequence import Sequence
from server.engine.sides import Sides, points
from server.engine.step import Step

TOLD = 64
"""Rows of logits that are looked at together: in float32 a large vocabulary takes megabytes each."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a sequence that got logits: a chosen id, or while scoring one sum of logs per continuation fed.

    `told`: ids of its prompt with their logs.
    """

    sequence: Sequence
    choice: Choice | None = None
    scores: tuple[float, ...] = ()
    told: tuple[Choice, ...] = ()


class Runner:
    """Owns the K/V cache and the attention function of one base: `slots` of `positions` at most, `area` in all.

    With a `tile` every pass has so many tokens and every sequence products of its own shapes: no neighbour then
    changes a bit of its logits, at a price (docs/log.md).
    """

    def __init__(self, base: BaseModel, slots: int, positions: int, area: int, tile: int | None = None) -> None:
        shape = base.shape
        self.base = base
        self._tile = tile
        like = torch.empty(0, dtype=base.dtype, device=base.device)
        self.kv = KVCache(KVShape(shape.layers, slots, shape.kv_heads, positions, shape.head_dim, area), like)
        self._attention = PackedAttention(self.kv, base.kernels)
        late = [module for module in base.attentions.values() if behind_projection(module)]
        self._hooks = [module.register_forward_hook(self._attention.add_late) for module in late]
        self._sides = Sides(base, apart=tile is not None)
        self._replays = None if tile else replays(base, self._attention, slots)

    def close(self) -> None:
        """The base, which another engine may serve, keeps nothing of this one: the cache goes with its last owner."""
        for hook in self._hooks:
            hook.remove()
        self._attention.close()
        self.base.attend_no_more(self._attention)

    def lay_out(self, step: Step) -> None:
        """Room for what the step's slots have to hold. A move that is done is not in the step any more."""
        while step.moves:
            self.kv.move(step.moves[0])
            del step.moves[0]  # laid out anew, the slot that it came from may not be there
        self.kv.fit(step.reach, step.high)

    def start(self, sequence: Sequence) -> None:
        """An empty slot, but for the ids whose keys and values are somewhere already."""
        source = sequence.source
        while isinstance(source, Sequence) and source.source is not None:
            source = source.source  # it could not start itself, and would have taken them from there
        self.kv.clear(sequence.slot)
        if isinstance(source, Sequence) and source.slot < 0:
            raise RuntimeError("what it is to begin with has left its slot")
        if isinstance(source, Sequence):
            self.kv.copy_across(source.slot, sequence.slot, sequence.fed)
        elif source is not None:
            self.kv.copy_in(sequence.slot, source, sequence.fed)

    def run(self, step: Step) -> list[Outcome]:
        """One forward pass; afterwards the K/V of everything fed lies in the sequences' slots."""
        if self._replays is not None and not step.prefills and len(step.decodes) <= self._replays.most:
            return self._outcomes(step, step.decodes, *self._replays.run([self._place(one) for one in step.decodes]))
        batch = build(step, self.kv.span, self.base.device, self._tile)
        batch.plan.sides = self._sides.of(batch.adapted)
        self._attention.begin(batch.plan)
        self.base.attend_with(self._attention, self._attention.name)
        logits = self._logits(batch)
        told = self._told(batch.told, logits[len(batch.wanted) :])
        return told + self._outcomes(step, batch.wanted, logits[: len(batch.wanted)])

    def adapter(self, prompts: npt.NDArray[np.float32], gate: npt.NDArray[np.float32]) -> Adapter:
        """Learnt prompts and their gate as the upper layers' keys and values."""
        tensor = self.base.tensor
        return projected(self.base.attentions, tensor(prompts), tensor(gate), self.base.shape.heads)

    def _place(self, sequence: Sequence) -> Decode:
        adapter = None if sequence.resident is None else sequence.resident.adapter
        told = None if adapter is None else points(adapter, self.base.shape.layers)
        return Decode(sequence.ids[-1], sequence.fed, sequence.slot, told)

    def _logits(self, batch: Batch) -> torch.Tensor:
        """[wanted, V]."""
        embedded = self._embed(batch)
        if self._tile is None:
            return self.base.logits(embedded, batch.positions, batch.logit_rows)
        every = torch.arange(self._tile, device=embedded.device)
        return self.base.logits(embedded, batch.positions, every)[batch.logit_rows]

    def _embed(self, batch: Batch) -> torch.Tensor:
        embedded = self.base.embed(batch.ids)
        if batch.rows:
            index = torch.tensor([at for at, _, _ in batch.rows], device=embedded.device)
            rows = torch.stack([tensor[row] for _, tensor, row in batch.rows])
            embedded[0].index_copy_(0, index, rows)
        return embedded

    def _told(self, told: list[tuple[Sequence, int]], logits: torch.Tensor) -> list[Outcome]:
        """An outcome a sequence; logits [told, V]."""
        found: dict[Sequence, list[Choice]] = {}
        for start in range(0, len(told), TOLD):
            part, rows = told[start : start + TOLD], logits[start : start + TOLD]
            counts = [sequence.request.prompt_logprobs or 0 for sequence, _ in part]
            best, _ = self.base.best(rows)
            choices = tell(rows, [token for _, token in part], counts, best, self.base.log_sums)
            for (sequence, _), choice in zip(part, choices, strict=True):
                found.setdefault(sequence, []).append(choice)
        return [Outcome(sequence, told=tuple(choices)) for sequence, choices in found.items()]

    def _outcomes(
        self, step: Step, wanted: list[Sequence], logits: torch.Tensor, best: Best | None = None
    ) -> list[Outcome]:
        """Of every row of logits [wanted, V]; `best` of each, where that is known."""
        generating = [row for row, sequence in enumerate(wanted) if not sequence.scoring]
        wishes = [Wish(wanted[r].request.sampling, wanted[r].generated, wanted[r].ids) for r in generating]
        some = logits if len(generating) == len(wanted) else logits[generating]
        chosen = choose(some, wishes, best or self.base.best(some), self.base.log_sums) if generating else []
        outcomes = [Outcome(wanted[r], choice=c) for r, c in zip(generating, chosen, strict=True)]
        row = len(step.decodes)
        for chunk in step.prefills:
            sequence = chunk.sequence
            continuations = sequence.request.continuations
            if chunk.branches:
                part = continuations[chunk.start : chunk.start + chunk.count]
                count = sum(len(c) - 1 for c in part)
                outcomes.append(Outcome(sequence, scores=_later_ids(logits[row : row + count], part)))
                row += count
            elif chunk.start + chunk.count == sequence.prompt_length:
                if sequence.scoring:
                    outcomes.append(Outcome(sequence, scores=_first_ids(logits[row], continuations)))
                row += 1
        return outcomes


def _first_ids(row: torch.Tensor, continuations: tuple[tuple[int, ...], ...]) -> tuple[float, ...]:
    """Log-probability of each continuation's first id after the prompt; logits [V]."""
    firsts = torch.tensor([c[0] for c in continuations], device=row.device)
    return tuple(torch.log_softmax(row.double(), -1)[firsts].tolist())


def _later_ids(rows: torch.Tensor, continuations: tuple[tuple[int, ...], ...]) -> tuple[float, ...]:
    """Sum of the log-probabilities of each continuation's ids after its first; logits [sum(len - 1), V]."""
    targets = [token for c in continuations for token in c[1:]]
    picked = torch.log_softmax(rows.float(), -1).gather(-1, torch.tensor(targets, device=rows.device)[:, None])[:, 0]
    pieces = picked.double().split([len(c) - 1 for c in continuations])
    return tuple(float(piece.sum()) for piece in pieces)
