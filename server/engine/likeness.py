"""Whether a decoder layer is one of Llama's shape: by its children, its activation, and what it answers to a few rows.

What it adds to its input is compared, not its output: beside a loud residual, any layer is like any other. Knows
modules; no family by name, no requests.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface

from server.engine.fused import FusedLayer
from server.engine.kernels import Kernels
from server.engine.norms import FusedRMSNorm
from server.engine.packing import Packed, Part

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2**-5, torch.float16: 2**-8}
"""Largest difference between two answers, as a share of the largest number in the layer's own."""
COARSE = 2**-4
"""The same where weights have 8 bits: a last bit of a row may change how all of it is quantized."""
QUIET = 1e-3
"""Size of the rows: what a layer adds to them must not drown in their rounding."""
LOUD = 100.0
"""How much more an attention's answer is made to weigh than an MLP's."""

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

_serial = itertools.count()


@dataclass(slots=True)
class Probe:
    """An attention function that looks at no other token: it mixes its inputs, as loud as is asked, and keeps them."""

    volume: float = 1.0
    given: list[torch.Tensor] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        _module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        _mask: torch.Tensor | None,
        **told: Any,
    ) -> tuple[torch.Tensor, None]:
        self.given, self.told = [query.clone(), key.clone(), value.clone()], told
        mixed = (key - value).repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        return self.volume * (query + mixed).transpose(1, 2).contiguous(), None


def fuse(model: nn.Module, kernels: Kernels, *, coarse: bool = False) -> list[FusedLayer]:
    """Gives every layer of `model` that is like Llama's a fused forward. `coarse`: 8 bits a weight."""
    tolerance = COARSE if coarse else TOLERANCE[kernels.dtype]
    probe, name = Probe(), f"softprompt-probe-{next(_serial)}"
    AttentionInterface.register(name, probe)
    found = [fused for layer in model.modules() if (fused := _fused(layer, kernels, probe, name, tolerance))]
    for fused in found:
        fused.put_on()
    return found


def _fused(layer: Any, kernels: Kernels, probe: Probe, name: str, tolerance: float) -> FusedLayer | None:
    if not _has_shape(layer):
        return None
    config = layer.self_attn.config
    before = config._attn_implementation  # noqa: SLF001 - what `set_attn_implementation` sets, for one layer
    config._attn_implementation = name  # noqa: SLF001 - likewise
    try:
        return _alike(layer, kernels, probe, tolerance)
    except (TypeError, RuntimeError, AttributeError, ValueError):  # a layer that wants more is another shape
        return None
    finally:
        config._attn_implementation = before  # noqa: SLF001 - likewise


@torch.inference_mode()
def _alike(layer: Any, kernels: Kernels, probe: Probe, tolerance: float) -> FusedLayer | None:
    """The fused form, when it answers a few rows as the layer does: without its attention, and with a loud one."""
    weight, size = layer.input_layernorm.weight, layer.self_attn.head_dim
    generator = torch.Generator().manual_seed(0)
    x = (QUIET * torch.randn(1, 5, len(weight), generator=generator)).to(weight.device, kernels.dtype)
    cos, sin = torch.randn(2, 1, 5, size, generator=generator).to(weight.device, kernels.dtype)
    fused: FusedLayer | None = None
    for probe.volume in (0.0, LOUD):
        own = layer(x.clone(), position_embeddings=(cos, sin))
        inputs = probe.given
        if fused is None:
            fused = FusedLayer(layer, kernels, dict(probe.told))
        fused.attend = probe
        ours = fused(x.clone(), position_embeddings=(cos, sin))
        fused.attend = None
        pairs = [(ours.float() - x.float(), own.float() - x.float()), *zip(probe.given, inputs, strict=True)]
        if not all(_near(found, wanted, tolerance) for found, wanted in pairs):
            return None
    return fused


def _near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> bool:
    furthest = (found.float() - wanted.float()).abs().max()
    return found.shape == wanted.shape and bool(furthest <= tolerance * wanted.float().abs().max())


@torch.inference_mode()
def _is_silu(activation: nn.Module) -> bool:
    """Two activations may be alike on the few numbers that a layer's rows make of them."""
    grid = torch.linspace(-12, 12, 200)
    return torch.allclose(activation(grid), F.silu(grid), atol=1e-6)


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
        and _is_silu(mlp.act_fn)
    )


def _children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}
