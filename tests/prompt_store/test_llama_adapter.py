"""The official LLaMA-Adapter's tensors become an adapter whose gates are the multipliers themselves."""

import numpy as np
import pytest
import torch
from safetensors.torch import save

from prompt_store.errors import PromptError
from prompt_store.metadata import Base
from prompt_store.peft import convert

BASE = Base("ab" * 32, "tiny", hidden=16, layers=3, kv_heads=2, head_dim=4)
LENGTH, HEADS = 5, 4


def official(layers: tuple[int, ...] = (1, 2), **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {"adapter_query.weight": torch.randn(len(layers) * LENGTH, 16, generator=generator)}
    found |= {f"layers.{i}.attention.gate": torch.randn(1, HEADS, 1, 1, generator=generator) for i in layers}
    return found | {name.replace("__", "."): tensor for name, tensor in changed.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_gate_per_head_with_its_tanh_applied(dtype: torch.dtype) -> None:
    """Layers stacked from the lowest adapted one up."""
    theirs = {name: tensor.to(dtype) for name, tensor in official().items()}
    prompt = convert(save(theirs), BASE).prompt
    assert (prompt.kind, prompt.length) == ("adapter", LENGTH)
    rows = theirs["adapter_query.weight"].float().view(2, LENGTH, 16).numpy()
    np.testing.assert_array_equal(prompt.tensors["prompts"].float32(), rows)
    gates = torch.cat([theirs[f"layers.{i}.attention.gate"].view(1, HEADS) for i in (1, 2)]).float().tanh().to(dtype)
    np.testing.assert_allclose(prompt.tensors["gate"].float32(), gates.float().numpy(), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        (official((0, 1)), "wrong_tensors"),
        (official((2, 3)), "wrong_tensors"),
        (official(adapter_query__weight=torch.zeros(10, 8)), "wrong_shape"),
        (official(adapter_query__weight=torch.zeros(9, 16)), "wrong_shape"),
        (official(layers__1__attention__gate=torch.zeros(1, 3, 1, 1)), "wrong_shape"),
        (official(layers__2__attention__gate=torch.zeros(4)), "wrong_shape"),
        (official(layers__2__attention__gate=torch.zeros(1, 4, 1, 1, dtype=torch.float16)), "bad_dtype"),
    ],
)
def test_what_does_not_fit_is_refused(tensors: dict[str, torch.Tensor], code: str) -> None:
    """Other layers, widths, heads or dtypes."""
    with pytest.raises(PromptError) as caught:
        convert(save(tensors), BASE)
    assert caught.value.code == code
