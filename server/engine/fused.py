"""Decoder layers of Llama's shape with native kernels between their matrix products: 8 calls a layer instead of 60.

A layer keeps its modules and gets another `forward`, if it has that shape and the new one gives the same numbers; all
others stay as they are. The attention function that the model is set to is called as the family's own code calls it.
Knows modules; no family by name, no requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from server.engine.native.library import Kernels
from server.engine.norms import FusedRMSNorm
from server.engine.packing import Packed, Part

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-6}
"""Largest difference to the layer's own answer, as a share of its largest number."""
COARSE = 2**-5
"""The same where weights have 8 bits: a last bit of a row may change how all of it is quantized."""

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

_PROBE = "softprompt-probe"
_FUNCTIONS = AttentionInterface()


@dataclass(slots=True)
class _Probe:
    """An attention function that mixes its inputs without looking at other tokens, and keeps what else it was told."""

    told: dict[str, Any]

    def __call__(
        self,
        _module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        _mask: torch.Tensor | None,
        **told: Any,
    ) -> tuple[torch.Tensor, None]:
        self.told = told
        mixed = (key - value).repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        return (query + mixed).transpose(1, 2).contiguous(), None


class FusedLayer:
    """What `forward` of a decoder layer does: norm, attention, residual, norm, gated MLP, residual.

    `told`: what the layer tells the attention function besides queries, keys and values. `attend`: that function, once
    it is known; until then the one that the model is set to.
    """

    def __init__(self, layer: Any, kernels: Kernels, told: Mapping[str, Any]) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._kernels = kernels
        self._attention, self._told = attention, told
        self.attend: Any = None
        self._size = attention.head_dim
        self._first, self._second = layer.input_layernorm, layer.post_attention_layernorm
        self._qkv, self._out = attention.q_proj.together.whole, attention.o_proj
        q_width, k_width, _ = attention.q_proj.together.widths
        self._heads, self._kv_heads = q_width // self._size, k_width // self._size
        norms = [getattr(attention, name) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
        self._norms = (norms[0].weight, norms[1].weight) if norms else None
        self._eps = norms[0].eps if norms else 0.0
        self._up, self._down = mlp.gate_proj.together.whole, mlp.down_proj

    def __call__(
        self, hidden_states: torch.Tensor, *_: Any, position_embeddings: tuple[torch.Tensor, torch.Tensor], **__: Any
    ) -> torch.Tensor:
        """hidden_states [1, N, d], position_embeddings two of [1, N, D] -> [1, N, d]."""
        cos, sin = position_embeddings
        if cos.shape != (*hidden_states.shape[:-1], self._size) or cos.dtype != self._kernels.dtype:
            raise ValueError(
                f"rotary positions {[*cos.shape]} for rows {[*hidden_states.shape]}, heads of {self._size}"
            )
        kernels, first, second = self._kernels, self._first, self._second
        qkv = self._qkv(kernels.norm(hidden_states, first.weight, first.eps))
        kernels.rotate(qkv, cos, sin, self._heads, self._kv_heads, self._norms, self._eps)
        per_head = qkv.view(1, qkv.shape[1], -1, self._size).transpose(1, 2)
        q, k, v = per_head.split((self._heads, self._kv_heads, self._kv_heads), dim=1)
        attend = self.attend or _FUNCTIONS[self._attention.config._attn_implementation]  # noqa: SLF001 - as families do
        mixed, _none = attend(self._attention, q, k, v, None, **self._told)
        hidden_states = self._out.plus(mixed.flatten(2), hidden_states)
        gated = kernels.gate(self._up(kernels.norm(hidden_states, second.weight, second.eps)))
        fed: torch.Tensor = self._down.plus(gated, hidden_states)
        return fed


def fuse(model: nn.Module, kernels: Kernels, *, coarse: bool = False) -> list[FusedLayer]:
    """Gives every layer of `model` that has the shape a fused forward. `coarse`: 8 bits a weight."""
    tolerance = COARSE if coarse else TOLERANCE[kernels.dtype]
    found = []
    for module in model.modules():
        fused = _fused(module, kernels, tolerance)
        if fused is not None:
            module.forward = fused
            found.append(fused)
    return found


def _fused(layer: Any, kernels: Kernels, tolerance: float) -> FusedLayer | None:
    if not _has_shape(layer):
        return None
    config, probe = layer.self_attn.config, _Probe({})
    before = config._attn_implementation  # noqa: SLF001 - what `set_attn_implementation` sets, for one layer
    AttentionInterface.register(_PROBE, probe)
    config._attn_implementation = _PROBE  # noqa: SLF001 - likewise
    try:
        return _same(layer, kernels, probe, tolerance)
    finally:
        config._attn_implementation = before  # noqa: SLF001 - likewise


@torch.inference_mode()
def _same(layer: Any, kernels: Kernels, probe: _Probe, tolerance: float) -> FusedLayer | None:
    """The fused form, when it answers a few rows as the layer does."""
    width, size = len(layer.input_layernorm.weight), layer.self_attn.head_dim
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, width, generator=generator).to(kernels.dtype)
    cos, sin = torch.randn(2, 1, 5, size, generator=generator).to(kernels.dtype)
    try:
        own = layer(x.clone(), position_embeddings=(cos, sin))
    except (TypeError, RuntimeError, AttributeError, ValueError):  # a layer that wants more is another shape
        return None
    fused = FusedLayer(layer, kernels, dict(probe.told))
    if not isinstance(own, torch.Tensor):
        return None
    furthest = (fused(x.clone(), position_embeddings=(cos, sin)).float() - own.float()).abs().max()
    return fused if furthest <= tolerance * own.float().abs().max() else None


def _has_shape(layer: Any) -> bool:
    """Llama's children, packed and with fused norms, and nothing beside them."""
    if _children(layer) != LAYER:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    own_norms = [layer.input_layernorm, layer.post_attention_layernorm]
    own_norms += [getattr(attention, name) for name in HEAD_NORMS if hasattr(attention, name)]
    return (
        _children(attention) in (ATTENTION, ATTENTION | HEAD_NORMS)
        and _children(mlp) == MLP
        and isinstance(attention.q_proj, Part)
        and isinstance(mlp.gate_proj, Part)
        and all(isinstance(linear, Packed) for linear in (attention.o_proj, mlp.down_proj))
        and all(isinstance(norm, FusedRMSNorm) for norm in own_norms)
    )


def _children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}
