"""Decoder layers of Llama's shape with native kernels between their matrix products: 8 calls a layer instead of 60.

Runs in the engine alone, where no mask is wanted; anywhere else, and for rotary positions of another size, the layer's
own code runs. Which layers may have it is `likeness`'s question. Knows modules; no family by name, no requests.
"""

from collections.abc import Mapping
from typing import Any

import torch

from server.engine.kernels import Kernels


class FusedLayer:
    """What `forward` of a decoder layer does: norm, attention, residual, norm, gated MLP, residual.

    `told`: what the layer tells the attention function besides queries, keys and values. `attend`: that function; None
    outside the engine.
    """

    def __init__(self, layer: Any, kernels: Kernels, told: Mapping[str, Any]) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.layer = layer
        self.attend: Any = None
        self._own = type(layer).forward
        self._kernels = kernels
        self._attention, self._told = attention, told
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
        self,
        hidden_states: torch.Tensor,
        *more: Any,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        **named: Any,
    ) -> torch.Tensor:
        """hidden_states [1, N, d], position_embeddings two of [1, N, D] -> [1, N, d]."""
        cos, sin = position_embeddings
        fits = cos.shape == (*hidden_states.shape[:-1], self._size) and cos.dtype == self._kernels.dtype
        if self.attend is None or not fits:
            own: torch.Tensor = self._own(
                self.layer, hidden_states, *more, position_embeddings=position_embeddings, **named
            )
            return own
        kernels, first, second = self._kernels, self._first, self._second
        qkv = self._qkv(kernels.norm(hidden_states, first.weight, first.eps))
        kernels.rotate(qkv, cos.contiguous(), sin.contiguous(), self._heads, self._kv_heads, self._norms, self._eps)
        per_head = qkv.view(1, qkv.shape[1], -1, self._size).transpose(1, 2)
        q, k, v = per_head.split((self._heads, self._kv_heads, self._kv_heads), dim=1)
        mixed, _none = self.attend(self._attention, q, k, v, None, **self._told)
        hidden_states = self._out.plus(mixed.flatten(2), hidden_states)
        gated = kernels.gate(self._up(kernels.norm(hidden_states, second.weight, second.eps)))
        fed: torch.Tensor = self._down.plus(gated, hidden_states)
        return fed

    def put_on(self) -> None:
        """The layer runs this from now on."""
        self.layer.forward = self

    def take_off(self) -> None:
        """The layer runs its own code again."""
        del self.layer.forward
