"""A base that is not whole never serves: transformers would fill what is missing with noise."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from server.engine.checkpoint import BadBase, name_of
from server.engine.model import BaseModel
from tests import models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models.save(tmp_path / "base")


def test_a_base_that_lacks_a_weight_is_refused(folder: Path) -> None:
    """By the weight's name."""
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadBase, match=r"lacks 1, model\.layers\.1\.mlp\.down_proj\.weight"):
        BaseModel.load(folder, device="cpu")


@pytest.mark.parametrize(("layers", "said"), [(4, "lacks"), (2, "has no place for")])
def test_a_base_whose_config_counts_other_layers_is_refused(folder: Path, layers: int, said: str) -> None:
    """More would be noise, fewer another model under the same fingerprint."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}), encoding="utf-8")
    with pytest.raises(BadBase, match=said):
        BaseModel.load(folder, device="cpu")


@pytest.mark.parametrize("family", models.FAMILIES)
def test_a_whole_base_of_every_family_loads(tmp_path: Path, family: str) -> None:
    """Tied output layers and buffers are nothing that could be missing."""
    assert BaseModel.load(models.save(tmp_path / family, family), device="cpu").shape.layers == 3


def test_a_base_is_called_by_its_folder_or_its_hub_id(folder: Path) -> None:
    """A snapshot's folder is named after a commit, which nobody would recognise."""
    assert name_of(str(folder)) == "base"
    assert name_of("HuggingFaceTB/SmolLM2-135M") == "HuggingFaceTB/SmolLM2-135M"


def test_a_longrope_base_serves_its_original_context(folder: Path) -> None:
    """Beyond it the factors change for the whole pass, and with them the neighbours' answers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": 64}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, **factors}
    (folder / "config.json").write_text(json.dumps({**config, "rope_parameters": rope}), encoding="utf-8")
    assert BaseModel.load(folder, device="cpu").shape.context == 64


def test_a_base_that_attends_both_ways_is_refused(tmp_path: Path) -> None:
    """An embedding model under a causal model's type."""
    folder = models.save(tmp_path / "base", "gemma3")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "use_bidirectional_attention": True}), encoding="utf-8")
    with pytest.raises(BadBase, match="both directions"):
        BaseModel.load(folder, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_best_id_is_found_in_logits_of_any_dtype_and_layout(folder: Path, dtype: str) -> None:
    """Some families give float32 whatever they compute in; a kernel reads what it is told lies there."""
    base = BaseModel.load(folder, device="cpu", dtype=dtype)
    logits = torch.randn(5, 700, generator=torch.Generator().manual_seed(0))
    for given in (logits, logits.bfloat16(), logits[:, ::2], logits.T.contiguous().T):
        values, ids = base.best(given)
        assert ids.tolist() == given.float().argmax(-1).tolist()
        assert values.tolist() == given.float().max(-1).values.tolist()
        own = (given.double() - values[:, None]).logsumexp(-1)
        assert torch.allclose(base.log_sums(given, values).double(), own, atol=1e-5)
