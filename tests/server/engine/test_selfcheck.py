"""A base of an untried family serves when it answers alike packed and alone, else it is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MinistralConfig,
    MinistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    SeedOssConfig,
    SeedOssForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from server.engine.checkpoint import BadBase
from server.engine.kernels import Layer
from server.engine.model import FAMILIES, BaseModel
from server.engine.native.binding import kernels
from server.engine.selfcheck import check
from tests import models

SHAPE: dict[str, Any] = {"vocab_size": 384, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED: dict[str, Any] = {**SHAPE, "num_key_value_heads": 2, "intermediate_size": 96, "pad_token_id": 2}


def base_of(model: PreTrainedModel, folder: Path, dtype: str = "float32") -> BaseModel:
    assert model.config.model_type not in FAMILIES
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                scale = 1.0 if "embed" in name else 2.0 / parameter.shape[-1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.save_pretrained(folder)
    return BaseModel.load(folder, device="cpu", dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_family_that_answers_alike_serves(tmp_path: Path, dtype: str) -> None:
    """A mixture of experts, and embeddings that are scaled; afterwards the model has its own attention again."""
    mixtral = base_of(MixtralForCausalLM(MixtralConfig(**GROUPED, num_local_experts=4)), tmp_path / "mixtral", dtype)
    gemma = base_of(GemmaForCausalLM(GemmaConfig(**GROUPED, head_dim=24)), tmp_path / "gemma", dtype)
    assert max(check(mixtral), check(gemma)) < 0.1
    config: Any = gemma.model.config
    assert config._attn_implementation == "sdpa"


@pytest.mark.parametrize("weights", ["dtype", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["seed_oss", "ministral", "smollm3"])
def test_an_untried_family_of_llamas_shape_is_held_against_its_own_code(
    family: str, dtype: str, weights: str, tmp_path: Path
) -> None:
    """With fused layers, a window shorter than what is read, and a layer without rotary positions that is not fused."""
    found = kernels(torch.float32, torch.device("cpu"))
    if isinstance(found, str) or not found.int8:
        pytest.skip("no AVX512-VNNI kernels here")
    shape: dict[str, Any] = {**GROUPED, "num_hidden_layers": 4, "max_position_embeddings": 256}
    model: PreTrainedModel
    if family == "seed_oss":
        model = SeedOssForCausalLM(SeedOssConfig(**shape, head_dim=16))
    elif family == "ministral":
        model = MinistralForCausalLM(MinistralConfig(**shape, head_dim=16, sliding_window=16))
    else:
        model = SmolLM3ForCausalLM(SmolLM3Config(**shape))
    base_of(model, tmp_path / "base", dtype)
    base = BaseModel.load(tmp_path / "base", device="cpu", dtype=dtype, weights=weights)
    assert len(base.fused) == (3 if family == "smollm3" else 4)
    assert check(base) < (1e-3 if (dtype, weights) == ("float32", "dtype") else 0.25)
    assert all(layer.layer.forward is layer for layer in base.fused), "it is fused again"


def test_a_family_with_another_attention_is_refused_by_name(tmp_path: Path) -> None:
    """GPT-J brings its own, Bloom has no bound of positions, Mamba no attention at all."""
    gptj = GPTJForCausalLM(GPTJConfig(vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_positions=256, rotary_dim=8))
    with pytest.raises(BadBase, match="gptj is not served: packed with others its logprobs differ"):
        check(base_of(gptj, tmp_path / "gptj"))
    bloom = BloomForCausalLM(BloomConfig(vocab_size=384, hidden_size=64, n_layer=2, n_head=4))
    with pytest.raises(BadBase, match=r"bloom is not served: .*max_position_embeddings"):
        base_of(bloom, tmp_path / "bloom")
    with pytest.raises(BadBase, match="mamba is not served"):
        check(base_of(MambaForCausalLM(MambaConfig(**SHAPE)), tmp_path / "mamba"))


def test_the_check_sees_a_small_slip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score scaled by two per cent too much is found in float32."""
    base = base_of(GemmaForCausalLM(GemmaConfig(**GROUPED, head_dim=24)), tmp_path / "gemma")
    plain = Layer
    monkeypatch.setattr(
        "server.engine.attention.Layer", lambda k, v, at, scale, *more: plain(k, v, at, 1.02 * scale, *more)
    )
    with pytest.raises(BadBase, match="gemma is not served"):
        check(base)


def test_a_context_too_short_to_try_is_refused(tmp_path: Path) -> None:
    """At once: nothing waits for a pass that cannot be fed."""
    short = GemmaForCausalLM(GemmaConfig(**GROUPED, head_dim=24, max_position_embeddings=8))
    with pytest.raises(BadBase, match="too short to be tried"):
        check(base_of(short, tmp_path / "short"))


def test_a_type_that_is_no_causal_model_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """By name, from its config alone."""
    folder = models.save(tmp_path / "base")
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"llama"', '"vit"'), encoding="utf-8")
    with pytest.raises(BadBase, match="vit is no causal language model"):
        BaseModel.load(folder, device="cpu")
