"""PEFT's files: what the real library writes is read, what we write the real library loads, and both mean the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import (
    AdaptionPromptConfig,
    MultitaskPromptTuningConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save
from transformers import LlamaConfig, LlamaForCausalLM

from prompt_store.errors import PromptError
from prompt_store.metadata import Base, Kind
from prompt_store.peft import WEIGHTS, convert, is_peft, read_directory, to_peft
from prompt_store.prompt import parse
from tests.prompt_store.make import embeddings

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

BASE = Base("ab" * 32, "tiny", hidden=16, layers=3, kv_heads=2, head_dim=4)
ROWS = 5
CAUSAL: dict[str, Any] = {"task_type": "CAUSAL_LM"}


def model() -> LlamaForCausalLM:
    """A random Llama of BASE's sizes."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
    )
    made = LlamaForCausalLM(config)
    made.eval()
    return made


def saved(config: PeftConfig, folder: Path, dtype: torch.dtype = torch.float32) -> PeftModel:
    """What PEFT writes for a method, its weights random."""
    torch.manual_seed(1)
    wrapped: PeftModel = get_peft_model(model(), config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn_like(parameter).to(dtype)
    wrapped.eval().save_pretrained(str(folder))
    return wrapped


def values(data: bytes, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One tensor of a file of ours."""
    return parse(data).prompt.tensors[name].float32()


CONFIGS: dict[str, PeftConfig] = {
    "PROMPT_TUNING": PromptTuningConfig(num_virtual_tokens=ROWS, **CAUSAL),
    "P_TUNING mlp": PromptEncoderConfig(num_virtual_tokens=ROWS, encoder_hidden_size=8, **CAUSAL),
    "P_TUNING lstm": PromptEncoderConfig(
        num_virtual_tokens=ROWS, encoder_hidden_size=8, encoder_reparameterization_type="LSTM", **CAUSAL
    ),
}


@pytest.mark.parametrize("method", CONFIGS)
def test_embeddings_of_peft_are_read_as_they_are(method: str, tmp_path: Path) -> None:
    """A PROMPT_TUNING or P_TUNING file of PEFT gives rows that are bit for bit what PEFT puts in front."""
    wrapped = saved(CONFIGS[method], tmp_path)
    data = (tmp_path / WEIGHTS).read_bytes()
    assert is_peft(data)
    file = convert(data, BASE)
    assert (file.prompt.kind, file.prompt.length, file.metadata.base) == ("embeddings", ROWS, None)
    assert np.array_equal(values(file.data, "embeddings"), wrapped.get_prompt(1)[0].detach().numpy())
    assert not is_peft(file.data)
    data, kind = read_directory(tmp_path)
    assert convert(data, BASE, kind=kind) == file


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    """A float16 or bfloat16 file keeps its dtype and bits."""
    saved(CONFIGS["PROMPT_TUNING"], tmp_path, dtype)
    rows = load_file(tmp_path / WEIGHTS)["prompt_embeddings"]
    assert rows.dtype == dtype
    file = convert((tmp_path / WEIGHTS).read_bytes(), BASE)
    assert file.prompt.tensors["embeddings"].dtype == {torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]
    assert np.array_equal(values(file.data, "embeddings"), rows.float().numpy())


def test_our_file_is_loaded_by_peft(tmp_path: Path) -> None:
    """A directory that we write loads with from_pretrained and changes the logits as the rows themselves do."""
    file = embeddings(ROWS, 16, seed=3)
    to_peft(file, tmp_path / "made")
    wrapped = PeftModel.from_pretrained(model(), str(tmp_path / "made")).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    base = model()
    rows = torch.from_numpy(values(file.data, "embeddings"))[None]
    fed = torch.cat([rows, base.get_input_embeddings()(ids)], dim=1)
    with torch.no_grad():
        theirs = wrapped(input_ids=ids).logits[:, -1]
        ours = base(inputs_embeds=fed).logits[:, -1]
        alone = base(input_ids=ids).logits[:, -1]
    assert torch.allclose(theirs, ours, atol=1e-6)
    assert not torch.allclose(theirs, alone, atol=1e-3)
    data, kind = read_directory(tmp_path / "made")
    assert convert(data, BASE, kind=kind).prompt == file.prompt


def test_prefix_goes_both_ways(tmp_path: Path) -> None:
    """PREFIX_TUNING becomes the keys and values that PEFT puts into the cache, and goes back to the same bytes."""
    config = PrefixTuningConfig(num_virtual_tokens=ROWS, **CAUSAL)
    wrapped = saved(config, tmp_path)
    file = convert((tmp_path / WEIGHTS).read_bytes(), BASE)
    assert file.prompt.kind == "prefix"
    cache: Any = wrapped.get_prompt(1)
    for layer in range(BASE.layers):
        assert np.array_equal(values(file.data, "key")[layer], cache.layers[layer].keys[0].detach().numpy())
        assert np.array_equal(values(file.data, "value")[layer], cache.layers[layer].values[0].detach().numpy())
    to_peft(file, tmp_path / "back")
    assert torch.equal(
        load_file(tmp_path / "back" / WEIGHTS)["prompt_embeddings"], load_file(tmp_path / WEIGHTS)["prompt_embeddings"]
    )
    again: Any = PeftModel.from_pretrained(model(), str(tmp_path / "back")).get_prompt(1)
    assert torch.equal(again.layers[1].values, cache.layers[1].values)


def test_multitask_is_multiplied_out(tmp_path: Path) -> None:
    """Each task of a MULTITASK file is the product that PEFT computes for it; without an index there is no choice."""
    config = MultitaskPromptTuningConfig(
        num_tasks=3, num_ranks=2, num_virtual_tokens=ROWS, num_transformer_submodules=1, **CAUSAL
    )
    wrapped = saved(config, tmp_path)
    data = (tmp_path / WEIGHTS).read_bytes()
    for index in range(3):
        with torch.no_grad():
            expected = wrapped.get_prompt(1, task_ids=torch.tensor([index]))[0].numpy()
        assert np.allclose(values(convert(data, BASE, task_index=index).data, "embeddings"), expected, atol=1e-6)
    for wrong in (None, -1, 3):
        with pytest.raises(PromptError) as caught:
            convert(data, BASE, task_index=wrong)
        assert caught.value.code == "bad_task_index"


def test_adaption_prompt_is_stacked_from_the_lowest_layer(tmp_path: Path) -> None:
    """ADAPTION_PROMPT's per-layer tensors become one, row 0 the lowest adapted layer."""
    saved(AdaptionPromptConfig(adapter_len=4, adapter_layers=2, **CAUSAL), tmp_path)
    theirs = load_file(tmp_path / WEIGHTS)
    file = convert((tmp_path / WEIGHTS).read_bytes(), BASE)
    assert (file.prompt.kind, file.prompt.length) == ("adapter", 4)
    for row, layer in enumerate((1, 2)):
        name = next(name for name in theirs if f"layers.{layer}." in name and name.endswith("adaption_prompt"))
        assert np.array_equal(values(file.data, "prompts")[row], theirs[name][0].float().numpy())
        gate = theirs[name.replace("adaption_prompt", "adaption_gate")]
        assert np.array_equal(values(file.data, "gate")[row], gate.float().numpy())


def rows_of(width: int, rows: int = ROWS) -> bytes:
    """A bare PEFT file of some width."""
    return save({"prompt_embeddings": torch.ones(rows, width)}, {"format": "pt"})


def test_conversion_is_deterministic() -> None:
    """The same upload with the same query always gives the same digest, and another query another one."""
    options: dict[str, Any] = {
        "template": "{soft:5}{a}",
        "labels": ["x", "y"],
        "description": "d",
        "target_delimiter": "",
    }
    file = convert(rows_of(16), BASE, **options)
    assert file == convert(rows_of(16), BASE, **options)
    assert file.digest != convert(rows_of(16), BASE).digest
    assert (file.metadata.labels, file.metadata.template, file.metadata.target_delimiter) == (
        ("x", "y"),
        "{soft:5}{a}",
        "",
    )
    assert convert(rows_of(16), Base("cd" * 32, "other", 16, 7, 2, 4)).digest == convert(rows_of(16), BASE).digest


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(None, "ambiguous_kind"), ("embeddings", "embeddings"), ("prefix", "prefix"), ("adapter", "wrong_shape")],
)
def test_ambiguous_width(kind: Kind | None, expected: str) -> None:
    """Where d = 2·L·H·D the kind must be said: a 4-layer Llama with 8 heads and 1 KV head."""
    base = Base("ab" * 32, "odd", hidden=64, layers=4, kv_heads=1, head_dim=8)
    try:
        assert convert(rows_of(64), base, kind=kind).prompt.kind == expected
    except PromptError as error:
        code = error.code
    else:
        code = expected
    assert code == expected
