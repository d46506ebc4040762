"""A decoder layer gets native kernels where it then says the same, and nowhere else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AttentionInterface,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from server.engine.engine import Engine
from server.engine.fused import FusedLayer
from server.engine.layers import exchange
from server.engine.likeness import fuse
from server.engine.model import BaseModel
from server.engine.native.binding import NativeKernels, kernels
from server.engine.norms import fused_norms
from server.engine.packing import packed_linears, packing_works
from server.engine.request import Request, Sampling
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    isinstance(kernels(torch.float32, CPU), str) or not packing_works(torch.float32), reason="no native kernels here"
)
FUSED = {"llama", "llama-wide", "mistral", "mistral-wide", "qwen2", "qwen2-wide", "qwen3"}


def able(dtype: torch.dtype = torch.float32) -> NativeKernels:
    found = kernels(dtype, CPU)
    assert isinstance(found, NativeKernels)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", sorted({*models.FAMILIES, *models.WIDE}))
def test_families_of_llamas_shape_are_fused(family: str, dtype: str, tmp_path: Path) -> None:
    """All their layers, where linear layers can be packed; every other family keeps its own."""
    base = BaseModel.load(models.save(tmp_path / "base", family), device="cpu", dtype=dtype)
    fused = family in FUSED and packing_works(base.dtype)
    assert len(base.fused) == (base.shape.layers if fused else 0)
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
    found = fuse(model, able())
    assert len(found) == 3
    assert torch.equal(model(ids, use_cache=False).logits, before), "outside the engine nothing changes"
    for layer in found:
        layer.attend = AttentionInterface()["sdpa"]
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


def test_rotary_positions_of_another_size_are_the_layers_own_business() -> None:
    """A family that rotates a part of each head: the kernel would read beyond their end."""
    model = prepared()
    layer = model.model.layers[0]
    (fused, *_) = fuse(model, able())
    fused.attend = pytest.fail
    half = torch.zeros(1, 2, 8)
    with pytest.raises(RuntimeError):  # Llama's own code, which does not know what to do with them either
        layer(torch.zeros(1, 2, 64), position_embeddings=(half, half))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights", ["dtype", "int8"])
@pytest.mark.parametrize("loudness", [0.01, 0.2])
@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"hidden_act": "gelu"}, {"model_type": "granite"}])
def test_a_layer_that_hardly_speaks_is_heard(
    change: dict[str, Any], loudness: float, weights: str, dtype: str, tmp_path: Path
) -> None:
    """Another activation, or residuals scaled as Granite does, with weights as small as a fresh model's."""
    found = able(getattr(torch, dtype))
    if weights == "int8" and not found.int8:
        pytest.skip("no AVX512-VNNI kernels here")
    size: dict[str, Any] = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    shape = {**size, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": loudness}
    torch.manual_seed(0)
    if "model_type" in change:
        model: PreTrainedModel = GraniteForCausalLM(GraniteConfig(**shape, residual_multiplier=0.22))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape, **change))
    model.save_pretrained(tmp_path / "base")
    assert BaseModel.load(tmp_path / "base", device="cpu", dtype=dtype, weights=weights).fused == []
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(tmp_path / "plain")
    packs = weights == "int8" or packing_works(getattr(torch, dtype))
    plain = BaseModel.load(tmp_path / "plain", device="cpu", dtype=dtype, weights=weights)
    assert len(plain.fused) == (3 if packs else 0)


def test_two_engines_on_one_base_take_turns(tmp_path: Path) -> None:
    """Each pass is its own engine's, whoever was made last."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32")
    engines = [Engine(base, EngineSettings(max_batch=4, threads=1)) for _ in range(2)]
    for engine in engines:
        engine.start()
    asked = [Request(number, (0, 40, 41 + number), Sampling(6, ignore_eos=True)) for number in range(3)]
    answers = [[oracle.ids_of(oracle.ask(engine, request)) for engine in (*engines, *engines)] for request in asked]
    assert all(one == own[0] for own in answers for one in own)
    assert len({tuple(own[0]) for own in answers}) == 3
    for engine in engines:
        engine.close()
