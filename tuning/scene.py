"""Who sees what in one padded batch: positions, branches, and the keys and values that stand before each row.

Knows tensors of indices and cached keys; no ids, no model, no objective.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tuning.soft import Change, Pair

PROMPT, PADDING = -1, -2


@dataclass(frozen=True, slots=True)
class Past:
    """Keys and values that rows stand behind: of every layer [K, H_kv, P, D] twice, one of K for each row.

    `positions` int64 [K, P]; `held` bool [K, P]: False where a shorter one is padded.
    """

    layers: list[Pair]
    positions: Tensor
    held: Tensor

    @property
    def lengths(self) -> Tensor:
        """int64 [K]."""
        return self.held.sum(1)

    def then(self, more: "Past") -> "Past":
        """This, and behind it what came later."""
        layers = [
            (torch.cat([k, more_k], 2), torch.cat([v, more_v], 2))
            for (k, v), (more_k, more_v) in zip(self.layers, more.layers, strict=True)
        ]
        positions = torch.cat([self.positions, more.positions], 1)
        return Past(layers, positions, torch.cat([self.held, more.held], 1))

    def chosen(self, owner: Tensor) -> "Past":
        """For rows that each use one of them: owner int64 [B]."""
        if len(self.held) == 1:  # a view, whose gradient is a sum
            count = len(owner)
            layers = [(k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)) for k, v in self.layers]
            return Past(layers, self.positions.expand(count, -1), self.held.expand(count, -1))
        layers = [(k.index_select(0, owner), v.index_select(0, owner)) for k, v in self.layers]
        return Past(layers, self.positions[owner], self.held[owner])


@dataclass(slots=True)
class Scene:
    """One forward pass over rows [B, n].

    `positions` int64 [B, n]; `branches` int64 [B, n]: PROMPT, PADDING, or the answer that an id belongs to, which only
    ids of the same answer see, or None where all are prompt or nobody minds padding. `owner` int64 [B] says which of
    the K members a row belongs to; `changes` are stacked along a first dimension of K. `recorded`: every layer's keys
    and values, kept for later rows.
    """

    positions: Tensor
    owner: Tensor
    branches: Tensor | None = None
    past: Past | None = None
    side: "Side | None" = None
    changes: dict[str, Change] = field(default_factory=dict)
    recorded: dict[int, Pair] | None = None
    _masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None) -> Tensor | None:
        """What is added to scores, [B, 1, n, P + n]: 0 where seen, else the least number. None: plain causal."""
        if window not in self._masks:
            self._masks[window] = self._mask(window)
        return self._masks[window]

    def _mask(self, window: int | None) -> Tensor | None:
        at = self.positions
        count = at.shape[1]
        if window is not None and int(at.max()) < window:
            return self.mask(None)
        if self.past is None and self.branches is None and window is None:
            return None
        seen = torch.ones(count, count, dtype=torch.bool, device=at.device).tril().expand(len(at), -1, -1)
        if self.branches is not None:
            of, by = self.branches[:, None, :], self.branches[:, :, None]
            seen = seen & ((of == by) | (of == PROMPT))
        keys = at
        if self.past is not None:
            seen = torch.cat([self.past.held[:, None, :].expand(-1, count, -1), seen], 2)
            keys = torch.cat([self.past.positions, at], 1)
        if window is not None:
            seen = seen & (at[:, :, None] - keys[:, None, :] < window)
        least = torch.finfo(torch.float32).min
        return torch.zeros(seen.shape, device=at.device).masked_fill(~seen, least)[:, None]


@dataclass(frozen=True, slots=True)
class Side:
    """Gated side attention of the topmost layers, `first` and up.

    keys, values [L_top, K, H_kv, p, D], gates [L_top, K, H]; mask [K, p] is added to scores where lengths differ.
    """

    first: int
    keys: Tensor
    values: Tensor
    gates: Tensor
    mask: Tensor | None
