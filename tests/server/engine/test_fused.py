"""A decoder layer gets native kernels where it then says the same, and nowhere else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from server.engine.fused import FusedLayer, fuse
from server.engine.layers import exchange
from server.engine.model import BaseModel
from server.engine.native.library import Kernels, kernels
from server.engine.norms import fused_norms
from server.engine.packing import packed_linears, packing_works
from tests import models

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    isinstance(kernels(torch.float32, CPU), str) or not packing_works(torch.float32), reason="no native kernels here"
)
FUSED = {"llama", "llama-wide", "mistral", "mistral-wide", "qwen2", "qwen2-wide", "qwen3"}


def able(dtype: torch.dtype = torch.float32) -> Kernels:
    found = kernels(dtype, CPU)
    assert isinstance(found, Kernels)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", sorted({*models.FAMILIES, *models.WIDE}))
def test_families_of_llamas_shape_are_fused(family: str, dtype: str, tmp_path: Path) -> None:
    """All their layers; every other family keeps its own."""
    base = BaseModel.load(models.save(tmp_path / "base", family), device="cpu", dtype=dtype)
    assert len(base.fused) == (base.shape.layers if family in FUSED else 0)
    assert BaseModel.load(tmp_path / "base", device="cpu", dtype=dtype, native=False).fused == []
    assert BaseModel.load(tmp_path / "base", device="cpu", dtype=dtype, packed=False).fused == []


def prepared() -> Any:
    """A small Llama as it is when its layers are fused."""
    model: PreTrainedModel = models.random_model("llama")
    exchange(model, fused_norms)
    exchange(model, packed_linears)
    return model


@torch.inference_mode()
def test_a_fused_model_says_what_it_said() -> None:
    """Through transformers' own attention; float32 to rounding."""
    model, ids = prepared(), torch.tensor([[0, 40, 41, 42, 43, 44]])
    before = model(ids, use_cache=False).logits
    assert len(fuse(model, able())) == 3
    after = model(ids, use_cache=False).logits
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert not torch.equal(after, before), "the same bits would mean that nothing was exchanged"


def another_activation(layer: Any) -> None:
    layer.mlp.act_fn = nn.GELU()


def another_formula(layer: Any) -> None:
    layer.__class__ = Halved


def one_more_child(layer: Any) -> None:
    layer.dropout = nn.Dropout()


def a_bias_in_the_norm(layer: Any) -> None:
    layer.input_layernorm = nn.LayerNorm(64)


def another_order_of_heads(layer: Any) -> None:
    layer.self_attn.__class__ = type("Turned", (type(layer.self_attn),), {"forward": turned(layer.self_attn.forward)})


def turned(forward: Any) -> Any:
    def call(_self: Any, hidden_states: torch.Tensor, **more: Any) -> Any:
        return forward(hidden_states.flip(-1), **more)

    return call


class Halved(LlamaDecoderLayer):
    """A layer with Llama's children and another sum."""

    def forward(self, hidden_states: torch.Tensor, **more: Any) -> torch.Tensor:  # type: ignore[override]
        return hidden_states + 0.5 * (super().forward(hidden_states, **more) - hidden_states)


@pytest.mark.parametrize(
    "change", [another_activation, another_formula, one_more_child, a_bias_in_the_norm, another_order_of_heads]
)
def test_a_layer_that_computes_something_else_keeps_its_own_code(change: Any) -> None:
    """And its neighbours are fused all the same."""
    model = prepared()
    change(model.model.layers[1])
    assert len(fuse(model, able())) == 2
    assert not isinstance(model.model.layers[1].forward, FusedLayer)


def test_rotary_positions_of_another_size_are_refused() -> None:
    """They would be read beyond their end."""
    model = prepared()
    fuse(model, able())
    half = torch.zeros(1, 2, 8)
    with pytest.raises(ValueError, match="rotary positions"):
        model.model.layers[0](torch.zeros(1, 2, 64), position_embeddings=(half, half))
