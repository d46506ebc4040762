"""The promise of design/40: logits within 1e-4 of transformers alone, for every family and every kind it serves."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from server.engine.adapters import ADAPTED_FAMILIES
from server.engine.model import BaseModel
from tests import models
from tests.server.engine import matrix, oracle, prompts


@pytest.mark.parametrize("how", ["native", "torch"])
@pytest.mark.parametrize("family", models.WIDE)
def test_logits_of_every_kind_are_those_of_transformers_alone(family: str, how: str, tmp_path: Path) -> None:
    """Every id's raw logit at every generated id, with requests of all other kinds in the same passes."""
    cells = matrix.measure(tmp_path / "base", family, how)
    assert set(cells) == set(prompts.KINDS) - (
        set() if family.removesuffix("-wide") in ADAPTED_FAMILIES else {"adapter"}
    )
    assert all(cell.close for cell in cells.values()), "\n".join(matrix.lines({family: cells}))
    assert all(cell.difference > 0 for cell in cells.values()), "two implementations that agree to the bit are one"


def test_the_matrix_sees_a_small_slip(tmp_path: Path) -> None:
    """One bias in one layer that is off by a hundredth is seen in every cell."""
    reference: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        models.save(tmp_path / "base", "qwen2"), dtype=torch.float32
    ).eval()
    base = BaseModel.load(tmp_path / "base", device="cpu", dtype="float32")
    bias = reference.get_parameter("model.layers.1.self_attn.v_proj.bias")
    with torch.no_grad():
        bias[3] += 0.01
    found = matrix.differences(base, reference)
    assert not any(cell.close for cell in found.values())


@pytest.mark.parametrize("family", models.WIDE)
def test_two_soft_prompts_of_a_kind_give_other_logits(family: str, tmp_path: Path) -> None:
    """Else a server that takes one for the other, or leaves both out, would pass."""
    base = BaseModel.load(models.save(tmp_path / "base", family), device="cpu", dtype="float32")
    reference = models.random_model(family)
    own = prompts.text(5, 9)
    bare = oracle.logits_after(reference, None, prompts.ids_of("bare", None, own), 1)
    for kind in prompts.kinds_of(base)[1:]:
        pair = [prompts.of_kind(kind, base.shape, seed) for seed in (1, 2)]
        one, two = (oracle.logits_after(reference, p, prompts.ids_of(kind, p, own), 1) for p in pair)
        for these, others in ((one, two), (one, bare), (two, bare)):
            assert float((these - others).abs().max()) > 0.5, kind
