"""Attention over a packed batch: the tokens of all sequences on one row, each reading its own slot of the K/V cache.

Registered under a name of its own with transformers' `AttentionInterface`, so that the model's code stays as it is: it
is handed q, k, v after the rotary step for any family. Knows slots, positions and masks; no ids, no requests.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from server.engine.adapters import Side, behind_projection
from server.engine.kv import KVCache

_serial = itertools.count()


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
    `side`: the tokens that use adapters, if any does.
    """

    decodes: int
    slots: torch.Tensor
    positions: torch.Tensor
    high: int
    span: int
    dense: bool
    segments: list[Segment]
    side: Side | None = None
    written: torch.Tensor | None = None
    masks: dict[int, torch.Tensor] = field(default_factory=dict)

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


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's cache and the call's constants: keys and values [slots, H_kv, positions, D].

    `softcap` c turns a score s into c tanh(s / c), as Gemma 2 does; None leaves scores alone.
    """

    keys: torch.Tensor
    values: torch.Tensor
    scale: float
    window: int
    softcap: float | None

    def capped(self, scores: torch.Tensor) -> torch.Tensor:
        return scores if self.softcap is None else scores.div_(self.softcap).tanh_().mul_(self.softcap)


class PackedAttention:
    """One engine's attention function; `begin` comes before every forward pass."""

    def __init__(self, kv: KVCache) -> None:
        self.kv = kv
        self.plan: Plan
        self._late: tuple[torch.Tensor, torch.Tensor] | None = None
        self.name = f"softprompt-packed-{next(_serial)}"
        AttentionInterface.register(self.name, self)
        ALL_MASK_ATTENTION_FUNCTIONS.register(self.name, _no_mask)

    def __call__(  # noqa: PLR0913, PLR0917 - the signature is transformers'
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: None = None,  # noqa: ARG002 - `_no_mask` builds none
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """query [1, H, N, D], key and value [1, H_kv, N, D] -> [1, N, H, D]."""
        plan = self.plan
        keys, values = self.kv.layers[int(module.layer_idx)]  # type: ignore[arg-type]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        layer = _Layer(keys, values, scale, sliding_window or self.kv.positions, softcap)
        out = query.new_empty(query.shape[2], query.shape[1], query.shape[3])
        if plan.decodes:
            out[: plan.decodes] = _decode(plan, layer, query[0], key[0], value[0])
        for segment in plan.segments:
            last = segment.first + segment.count
            q, k, v = (x[:, :, segment.first : last] for x in (query, key, value))
            out[segment.first : last] = _prefill(segment, layer, q, k, v)
        term = None if plan.side is None else plan.side.term(int(module.layer_idx), query[0])  # type: ignore[arg-type]
        if plan.side is not None and term is not None:
            if behind_projection(module):
                self._late = (plan.side.rows, term.flatten(1))
            else:
                out.index_add_(0, plan.side.rows, term)
        return out[None], None

    def begin(self, plan: Plan) -> None:
        """Of every forward pass, whatever became of the last one."""
        self.plan, self._late = plan, None

    def add_late(self, _module: torch.nn.Module, _given: Any, output: tuple[torch.Tensor, Any]) -> None:
        """A forward hook of attentions whose adapters are added behind the output projection."""
        if self._late is not None:
            output[0][0].index_add_(0, *self._late)
            self._late = None


def _no_mask(*_: Any, **__: Any) -> None:
    """transformers builds no mask for us: the plan knows who sees what."""


def _decode(plan: Plan, layer: _Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """One query a slot, as matmul, float32 softmax, matmul: on a CPU SDPA with one bfloat16 query is 7-25x slower."""
    (heads, _, size), kv_heads, count = q.shape, k.shape[0], plan.decodes
    keys, values = layer.keys, layer.values
    if plan.written is None:  # the same flat rows in every layer
        head = torch.arange(kv_heads, device=q.device)
        plan.written = ((plan.slots[:, None] * kv_heads + head) * plan.span + plan.positions[:, None]).view(-1)
    keys.view(-1, size).index_copy_(0, plan.written, k[:, :count].transpose(0, 1).reshape(-1, size))
    values.view(-1, size).index_copy_(0, plan.written, v[:, :count].transpose(0, 1).reshape(-1, size))
    grouped = (q[:, :count] * layer.scale).transpose(0, 1).reshape(count, kv_heads, heads // kv_heads, size)
    if not plan.dense:
        grouped = grouped.new_zeros(plan.high, *grouped.shape[1:]).index_copy_(0, plan.slots, grouped)
    read = plan.high * kv_heads
    scores = torch.bmm(grouped.reshape(read, -1, size), keys.view(-1, plan.span, size)[:read].transpose(1, 2)).float()
    scores = layer.capped(scores)
    scores.view(plan.high, heads, plan.span).add_(plan.mask(layer.window))
    weights = torch.softmax(scores, -1).to(values.dtype)
    out = torch.bmm(weights, values.view(-1, plan.span, size)[:read]).view(plan.high, heads, size)
    return out if plan.dense else out[plan.slots]


def _prefill(segment: Segment, layer: _Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    keys, values = layer.keys[segment.slot], layer.values[segment.slot]
    past, total = segment.past, segment.past + segment.count
    if segment.branches:
        all_k = torch.cat([keys[None, :, :past], k], dim=2)
        all_v = torch.cat([values[None, :, :past], v], dim=2)
    else:
        keys[:, past:total] = k[0]
        values[:, past:total] = v[0]
        all_k, all_v = keys[None, :, :total], values[None, :, :total]
    mask = segment.mask(layer.window, q.device)
    if layer.softcap is not None:
        return _capped_prefill(layer, q[0], all_k[0], all_v[0], mask)
    grouped = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(
        q, all_k, all_v, attn_mask=mask, is_causal=mask is None, scale=layer.scale, enable_gqa=grouped
    )
    return out[0].transpose(0, 1)


def _capped_prefill(
    layer: _Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """What torch's fused attention has no place for: scores capped before the mask. q [H, N, D], k, v [H_kv, T, D]."""
    (heads, count, size), kv_heads = q.shape, k.shape[0]
    grouped = (q * layer.scale).reshape(kv_heads, heads // kv_heads * count, size)
    scores = layer.capped(torch.bmm(grouped, k.transpose(1, 2)).float()).view(heads, count, -1)
    if mask is None:
        mask = torch.ones(count, count, dtype=torch.bool, device=q.device).tril_()
    weights = torch.softmax(scores.masked_fill_(~mask, float("-inf")), -1).to(v.dtype)
    out = torch.bmm(weights.view(kv_heads, -1, weights.shape[-1]), v)
    return out.view(heads, count, size).transpose(0, 1)
