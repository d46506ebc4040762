"""The products of attention over one layer's slots: one query a slot, or a run of queries of one slot.

In torch's operators, for the devices, dtypes and sizes that native kernels have nothing for. With a plan that keeps
sequences `apart` each has products of shapes that its own length alone decides, so that no neighbour changes a bit of
its result. Knows one layer's keys and values, and the plan; no model, no requests.
"""

import torch
import torch.nn.functional as F

from server.engine.kernels import Layer
from server.engine.plan import Plan, Segment
from server.engine.slots import rounded


def decode(plan: Plan, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """One query a slot, q [H, N, D], k, v [H_kv, N, D] -> [decodes, H, D]."""
    return _decode_apart(plan, layer, q, k, v) if plan.apart else _decode(plan, layer, q, k, v)


def _decode(plan: Plan, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """As matmul, float32 softmax, matmul: on a CPU SDPA with one bfloat16 query is 7-25x slower."""
    (heads, _, size), kv_heads, count = q.shape, k.shape[0], plan.decodes
    keys, values = layer.keys, layer.values
    _write(plan, layer, k, v)
    grouped = (q[:, :count] * layer.scale).transpose(0, 1).reshape(count, kv_heads, heads // kv_heads, size)
    if not plan.dense:
        grouped = grouped.new_zeros(plan.high, *grouped.shape[1:]).index_copy_(0, plan.slots, grouped)
    read = plan.high * kv_heads
    own = keys.view(-1, plan.span, size)[:read], values.view(-1, plan.span, size)[:read]
    out = _attended(layer, grouped.reshape(read, -1, size), *own, plan.mask(layer.window))
    out = out.view(plan.high, heads, size)
    return out if plan.dense else out[plan.slots]


def _attended(
    layer: Layer, grouped: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """grouped [S x H_kv, G, D] over keys, values [S x H_kv, T, D]; mask [S, 1, T] -> [S x H_kv, G, D]."""
    scores = layer.capped(torch.bmm(grouped, keys.transpose(1, 2)).float())
    scores.view(len(mask), -1, mask.shape[-1]).add_(mask)
    return torch.bmm(torch.softmax(scores, -1).to(values.dtype), values)


def _decode_apart(plan: Plan, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """As `_decode`, a sequence at a time over whole grains of its own length."""
    (heads, _, size), kv_heads = q.shape, k.shape[0]
    _write(plan, layer, k, v)
    out = q.new_empty(plan.decodes, heads, size)
    mask = plan.mask(layer.window)
    for row, (slot, at) in enumerate(zip(plan.slots.tolist(), plan.positions.tolist(), strict=True)):
        span = rounded(at + 1)
        grouped = (q[:, row] * layer.scale).reshape(kv_heads, heads // kv_heads, size)
        keys, values = (side[slot, :, :span].contiguous() for side in (layer.keys, layer.values))
        out[row] = _attended(layer, grouped, keys, values, mask[slot, None, :, :span]).view(heads, size)
    return out


def _write(plan: Plan, layer: Layer, k: torch.Tensor, v: torch.Tensor) -> None:
    """k, v [H_kv, N, D] of the decodes into their slots."""
    kv_heads, _, size = k.shape
    if plan.written is None:  # the same flat rows in every layer
        head = torch.arange(kv_heads, device=k.device)
        plan.written = ((plan.slots[:, None] * kv_heads + head) * plan.span + plan.positions[:, None]).view(-1)
    for cache, new in ((layer.keys, k), (layer.values, v)):
        cache.view(-1, size).index_copy_(0, plan.written, new[:, : plan.decodes].transpose(0, 1).reshape(-1, size))


def prefill(  # noqa: PLR0913 - one layer's inputs, as `decode` takes them
    segment: Segment, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, apart: bool
) -> torch.Tensor:
    """q [1, H, N, D], k, v [1, H_kv, N, D] of one segment -> [N, H, D]."""
    keys, values = layer.keys[segment.slot], layer.values[segment.slot]
    past, total = segment.past, segment.past + segment.count
    if segment.branches:
        all_k = torch.cat([keys[None, :, :past], k], dim=2)
        all_v = torch.cat([values[None, :, :past], v], dim=2)
    else:
        keys[:, past:total] = k[0]
        values[:, past:total] = v[0]
        all_k, all_v = keys[None, :, :total], values[None, :, :total]
    if apart:
        q, all_k, all_v = q.contiguous(), all_k.contiguous(), all_v.contiguous()
    mask = segment.mask(layer.window, q.device)
    if layer.softcap is not None:
        return _capped_prefill(layer, q[0], all_k[0], all_v[0], mask)
    grouped = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(
        q, all_k, all_v, attn_mask=mask, is_causal=mask is None, scale=layer.scale, enable_gqa=grouped
    )
    return out[0].transpose(0, 1)


def _capped_prefill(
    layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
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
