"""Several soft prompts in front of one base: what a batch needs of them, whichever row belongs to which.

The head that all prompts of one begin with runs through the base once, however many rows stand behind it. Knows kinds
of soft prompts and the base; no objective and no data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tuning.base import FrozenBase
from tuning.changes import stacked
from tuning.scene import PADDING, PROMPT, Past, Scene, Side
from tuning.soft import Change, Pair, Soft


@dataclass(frozen=True, slots=True)
class Member:
    """A soft prompt and the ids that all of its prompts begin with."""

    soft: Soft
    head: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Crowd:
    """K soft prompts. `rows` of all one after the other, member k's from `first[k]` on."""

    rows: Tensor
    first: tuple[int, ...]
    past: Past | None = None
    side: Side | None = None
    changes: dict[str, Change] = field(default_factory=dict)

    def ids(self, member: int, ids: Sequence[int]) -> list[int]:
        """A member's ids with its pseudo-tokens where they stand among all."""
        first = self.first[member]
        return [token if token >= 0 else token - first for token in ids]

    def before(self, member: int) -> int:
        """Positions in front of what a member's rows are fed."""
        return 0 if self.past is None else int(self.past.lengths[member])

    def scene(self, positions: Tensor, owner: Tensor, branches: Tensor | None) -> Scene:
        past = None if self.past is None else self.past.chosen(owner)
        return Scene(positions, owner, branches, past, self.side, self.changes)

    def cut(self) -> tuple["Crowd", Callable[[], None]]:
        """The same numbers as leaves of a new graph, and what takes their gradients back into the old one.

        So several passes may each go backward at once, and the heads' own pass only once for all.
        """
        pairs: list[tuple[Tensor, Tensor]] = []

        def leaf(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            pairs.append((tensor, tensor.detach().requires_grad_()))
            return pairs[-1][1]

        def back() -> None:
            grown = [(old, new.grad) for old, new in pairs if new.grad is not None]
            torch.autograd.backward([old for old, _ in grown], [grad for _, grad in grown])

        past, side = self.past, self.side
        if past is not None:
            past = replace(past, layers=[(leaf(k), leaf(v)) for k, v in past.layers])
        if side is not None:
            side = replace(side, keys=leaf(side.keys), values=leaf(side.values), gates=leaf(side.gates))
        changes = {
            name: type(change)(**{part: leaf(getattr(change, part)) for part in change.__dataclass_fields__})
            for name, change in self.changes.items()
        }
        return Crowd(leaf(self.rows), self.first, past, side, changes), back


def gather(base: FrozenBase, members: Sequence[Member]) -> Crowd:
    """What all of them show to the base. Keeps the graph that leads to what is learnt."""
    softs = [member.soft for member in members]
    lengths = [len(soft.rows) for soft in softs]
    first = tuple(sum(lengths[:index]) for index in range(len(lengths)))
    changes = stacked([soft.changes for soft in softs])
    base.changes.watch(list(changes))
    crowd = Crowd(torch.cat([soft.rows for soft in softs]), first, _deep(softs), _side(base, softs), changes)
    heads = [crowd.ids(index, member.head) for index, member in enumerate(members)]
    return replace(crowd, past=_behind(base, crowd, heads)) if any(heads) else crowd


def padded(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """int64 [B, n], shorter rows filled up on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.int64, device=device)


def _deep(softs: Sequence[Soft]) -> Past | None:
    if all(soft.deep is None for soft in softs):
        return None
    pairs = [soft.deep for soft in softs if soft.deep is not None]
    if len(pairs) < len(softs):
        raise ValueError("soft prompts with and without keys of their own do not learn together")
    lengths = [keys.shape[2] for keys, _ in pairs]
    longest, device = max(lengths), pairs[0][0].device

    def together(which: int) -> Tensor:
        filled = [torch.nn.functional.pad(pair[which], (0, 0, 0, longest - pair[which].shape[2])) for pair in pairs]
        return torch.stack(filled, 1)  # [L, K, H_kv, p, D]

    at = torch.arange(longest, device=device)
    layers = list(zip(together(0), together(1), strict=True))
    return Past(layers, at.expand(len(softs), -1), at[None] < torch.tensor(lengths, device=device)[:, None])


def _behind(base: FrozenBase, crowd: Crowd, heads: Sequence[Sequence[int]]) -> Past:
    """The heads' keys and values, behind whatever stands before them."""
    ids = padded([head or [0] for head in heads], 0, base.device)
    lengths = torch.tensor([len(head) for head in heads], device=base.device)
    within = torch.arange(ids.shape[1], device=base.device)
    before = crowd.past
    held = within[None] < lengths[:, None]
    positions = within + (0 if before is None else before.lengths[:, None])
    positions = positions.expand(len(heads), -1)
    branches = torch.where(held, PROMPT, PADDING)
    scene = crowd.scene(positions, torch.arange(len(heads), device=base.device), branches)
    scene.recorded = {}
    nothing = torch.zeros(1, dtype=torch.int64, device=base.device)
    base.logits(scene, base.embed(ids, crowd.rows), nothing, nothing)
    layers: list[Pair] = [scene.recorded[layer] for layer in sorted(scene.recorded)]
    read = Past(layers, positions, held)
    return read if before is None else before.then(read)


def _side(base: FrozenBase, softs: Sequence[Soft]) -> Side | None:
    """The prompts through each layer's key and value projections, never rotated; normed where a family norms keys."""
    pairs = [soft.side for soft in softs if soft.side is not None]
    if not pairs:
        return None
    if len(pairs) < len(softs) or len({len(prompts) for prompts, _ in pairs}) > 1:
        raise ValueError("adapters of other layers do not learn together")
    top, longest = len(pairs[0][0]), max(prompts.shape[1] for prompts, _ in pairs)
    filled = [torch.nn.functional.pad(p, (0, 0, 0, longest - p.shape[1])) for p, _ in pairs]
    prompts = torch.stack(filled, 1)  # [L_top, K, p, hidden]
    first = len(base.attentions) - top
    found = [_keys_values(base.attentions[first + index], prompts[index]) for index in range(top)]
    keys, values = (torch.stack(side) for side in zip(*found, strict=True))
    heads = base.model.config.num_attention_heads
    gates = torch.stack([gate.expand(-1, heads) for _, gate in pairs], 1)
    lengths = torch.tensor([p.shape[1] for p, _ in pairs], device=base.device)
    within = torch.arange(longest, device=base.device)
    beyond = within[None] >= lengths[:, None]
    mask = torch.zeros(beyond.shape, device=base.device).masked_fill(beyond, torch.finfo(torch.float32).min)
    return Side(first, keys, values, gates, mask if bool(beyond.any()) else None)


def _keys_values(module: Any, rows: Tensor) -> Pair:
    """rows [K, p, hidden] -> [K, H_kv, p, D] each; of the families that `llama_adapter` names."""
    keys, values = module.k_proj(rows), module.v_proj(rows)
    keys, values = (x.unflatten(-1, (-1, module.head_dim)) for x in (keys, values))
    if hasattr(module, "k_norm"):
        keys = module.k_norm(keys)
    return keys.transpose(1, 2), values.transpose(1, 2)
