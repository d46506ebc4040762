"""Who is who on the row of one forward pass: slots, positions and masks, as attention needs them.

Knows tensors of indices; no keys, no values, no requests.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from server.engine.adapters import Side
from server.engine.kernels import Rows, Run


@dataclass(slots=True)
class Segment:
    """Consecutive tokens `first` .. `first` + `count` - 1 of the row that belong to one slot, after `past` positions.

    `branches` gives the lengths of side branches instead: each attends to the `past` positions and to itself, and
    leaves nothing in the slot.
    """

    slot: int
    first: int
    count: int
    past: int
    branches: tuple[int, ...] = ()
    masks: dict[int, torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int, device: torch.device) -> torch.Tensor | None:
        """Bool [count, past + count], True where allowed; None when plain causal attention says it all."""
        if not self.branches and self.past == 0 and self.count <= window:
            return None
        if window not in self.masks:
            self.masks[window] = self._mask(window, device)
        return self.masks[window]

    def _mask(self, window: int, device: torch.device) -> torch.Tensor:
        total = self.past + self.count
        query = torch.arange(self.past, total, device=device)[:, None]
        allowed = torch.arange(total, device=device)[None, :] <= query
        if self.branches:
            of = torch.repeat_interleave(
                torch.arange(len(self.branches), device=device), torch.tensor(self.branches, device=device)
            )
            start = torch.tensor([0, *itertools.accumulate(self.branches)][:-1], device=device)
            query = self.past + torch.arange(self.count, device=device)[:, None] - start[of][:, None]
            allowed[:, self.past :] &= of[:, None] == of[None, :]
            key = torch.cat([torch.arange(self.past, device=device), query[:, 0]])
        else:
            key = torch.arange(total, device=device)
        return allowed & (key[None, :] > query - window)


@dataclass(slots=True)
class Plan:
    """Who is who on the row of one step: the first `slots` tokens are decodes, the segments follow.

    `slots`: int64 [decodes], ascending; `positions`: int64 [decodes], where each decode's k and v are written;
    `high`: slots 0 .. high - 1 are read; `span`: positions of a slot, all read; `dense`: slots are 0 .. high - 1.
    `sides`: the tokens that use adapters. `apart`: nobody's products may have a shape that neighbours decide. `stands`:
    where every token stands, once that was asked.
    """

    decodes: int
    slots: torch.Tensor
    positions: torch.Tensor
    high: int
    span: int
    dense: bool
    segments: list[Segment]
    sides: Sequence[Side] = ()
    apart: bool = False
    written: torch.Tensor | None = None
    masks: dict[int, torch.Tensor] = field(default_factory=dict)
    stands: Rows | None = None

    @property
    def branched(self) -> list[Segment]:
        return [segment for segment in self.segments if segment.branches]

    def rows(self, count: int) -> Rows:
        """Where every token of a row of `count` stands; slot -1 for those that belong into none."""
        if self.stands is None or len(self.stands.slots) != count:
            slots = torch.full((count,), -1, dtype=torch.int64, device=self.slots.device)
            at = torch.zeros_like(slots)
            slots[: self.decodes], at[: self.decodes] = self.slots, self.positions
            runs = tuple(Run(one.first, one.count, one.slot, one.past) for one in self.segments if not one.branches)
            for run in runs:
                own = slice(run.first, run.first + run.count)
                slots[own] = run.slot
                at[own] = torch.arange(run.past, run.past + run.count, device=at.device)
            self.stands = Rows(slots, at, self.decodes, runs, self.apart)
        return self.stands

    def mask(self, window: int) -> torch.Tensor:
        """Float [high, 1, span] to be added to scores: -inf beyond a slot's position or outside its window."""
        if window not in self.masks:
            at = torch.full((self.high,), 0, dtype=torch.int64, device=self.positions.device)
            at[self.slots] = self.positions
            span = torch.arange(self.span, device=at.device)
            outside = (span > at[:, None]) | (span <= at[:, None] - window)
            mask = torch.zeros(outside.shape, device=at.device).masked_fill_(outside, float("-inf"))
            self.masks[window] = mask[:, None]
        return self.masks[window]
