"""The attention of a frozen base while something is learnt on it: padded rows, each behind keys and values of its own.

Registered with transformers under a name of its own, so that any family's code stays as it is: it is handed queries,
keys and values after the rotary step, and the scene knows who sees whom. Knows no ids and no objective.
"""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from tuning.scene import Scene, Side

_serial = itertools.count()


class Attention:
    """One base's; `scene` is set before every forward pass."""

    def __init__(self) -> None:
        self.scene: Scene
        self.name = f"softprompt-learning-{next(_serial)}"
        AttentionInterface.register(self.name, self)

    def __call__(  # noqa: PLR0913, PLR0917 - the signature is transformers'
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: None = None,  # noqa: ARG002 - there is none
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """query [B, H, n, D], key and value [B, H_kv, n, D] -> [B, n, H, D]."""
        scene, layer = self.scene, int(module.layer_idx)  # type: ignore[arg-type]
        if scene.recorded is not None:
            scene.recorded[layer] = key, value
        if scene.past is not None:
            before = scene.past.layers[layer]
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        mask = scene.mask(sliding_window)
        out = attended(query, key, value, mask, scale, softcap)
        if scene.side is not None and layer >= scene.side.first:
            out = out + _side(scene.side, layer - scene.side.first, scene.owner, query)
        return out.transpose(1, 2), None


def attended(  # noqa: PLR0913, PLR0917 - what attention is made of
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: float | None
) -> Tensor:
    """softmax(q k) v of query [B, H, n, D]; mask [B, 1, n, T] is added to the scores, None: plain causal.

    In plain operators on a CPU: torch's fused attention takes up to five times as long backward there.
    """
    batch, heads, count, size = query.shape
    kv_heads, total = key.shape[1:3]
    if query.device.type != "cpu" and softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, None if mask is None else mask.to(query.dtype), is_causal=mask is None, scale=scale,
            enable_gqa=heads != kv_heads,
        )  # fmt: skip
    if mask is None:
        mask = torch.full((count, total), torch.finfo(torch.float32).min, device=query.device).triu(1)[None, None]
    grouped = query.reshape(batch, kv_heads, -1, size) * scale
    scores = (grouped @ key.transpose(-2, -1)).view(batch, heads, count, total)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = torch.softmax(scores.float() + mask, -1).to(value.dtype)
    found = weights.view(batch, kv_heads, -1, total) @ value
    return found.view(batch, heads, count, size)


def _side(side: Side, at: int, owner: Tensor, query: Tensor) -> Tensor:
    """gate * softmax(q k_a / sqrt(D)) v_a (LLaMA-Adapter, arXiv 2303.16199), of each row's own prompts."""
    batch, heads, _, size = query.shape
    keys, values, gates = (x[at].index_select(0, owner) for x in (side.keys, side.values, side.gates))
    grouped = query.reshape(batch, keys.shape[1], -1, size)
    scores = (grouped @ keys.transpose(-2, -1)).float() * size**-0.5
    if side.mask is not None:
        scores = scores + side.mask[owner][:, None, None]
    found = (torch.softmax(scores, -1).to(values.dtype) @ values).view(query.shape)
    return found * gates.view(batch, heads, 1, 1).to(found.dtype)
