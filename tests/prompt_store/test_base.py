"""The fingerprint of the base: the same for the same checkpoint, another for another, damage refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from prompt_store.base import INDEX, SINGLE, fingerprint, read_base
from prompt_store.errors import BaseDamaged

WEIGHTS: dict[str, NDArray[Any]] = {"b.weight": np.arange(5000, dtype=np.float32), "a": np.ones((2, 2), np.float16)}
CONFIG = {"model_type": "llama"}


def checkpoint(folder: Path, *, split: bool = False, config: object = CONFIG) -> Path:
    """A base of two tensors, in one shard or two."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if split:
        for name, array in WEIGHTS.items():
            save_file({name: array}, folder / f"{name}.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in WEIGHTS}}))
    else:
        save_file(WEIGHTS, folder / SINGLE)
    return folder


def test_formula(tmp_path: Path) -> None:
    """The fingerprint is the sha256 of the canonical JSON that the format document gives."""
    rows = []
    for name in sorted(WEIGHTS):
        data = WEIGHTS[name].tobytes()
        dtype = {"float32": "F32", "float16": "F16"}[str(WEIGHTS[name].dtype)]
        rows.append([name, dtype, list(WEIGHTS[name].shape), hashlib.sha256(data[:4096] + data[-4096:]).hexdigest()])
    text = json.dumps({"model_type": "llama", "tensors": rows}, separators=(",", ":"))
    assert fingerprint(checkpoint(tmp_path / "base")) == hashlib.sha256(text.encode()).hexdigest()


def test_shards_do_not_matter(tmp_path: Path) -> None:
    """One file or several, the checkpoint is the same."""
    assert fingerprint(checkpoint(tmp_path / "one")) == fingerprint(checkpoint(tmp_path / "two", split=True))


@pytest.mark.parametrize("position", [-1, -20_000])
def test_another_checkpoint_is_another_fingerprint(tmp_path: Path, position: int) -> None:
    """A value at either end of a tensor, a shape or a model type changes it."""
    folder = checkpoint(tmp_path / "base")
    before = fingerprint(folder)
    data = bytearray((folder / SINGLE).read_bytes())
    data[position] ^= 1
    (folder / SINGLE).write_bytes(data)
    assert fingerprint(folder) != before
    assert fingerprint(checkpoint(tmp_path / "other", config={"model_type": "mistral"})) != before


@pytest.mark.parametrize("split", [False, True])
def test_damage_is_refused_by_the_name_of_the_file(tmp_path: Path, split: bool) -> None:
    """A shard that is missing, a byte short or long, or has no header is named (T5, C8)."""
    folder = checkpoint(tmp_path / "base", split=split)
    shard = folder / ("a.safetensors" if split else SINGLE)
    whole = shard.read_bytes()
    for data in (whole[:-1], whole + b"\0", b"", whole[:4], b"\xff" * 8, b"x" * 100):
        shard.write_bytes(data)
        with pytest.raises(BaseDamaged, match=shard.name):
            fingerprint(folder)
    shard.unlink()
    with pytest.raises(BaseDamaged, match=shard.name):
        fingerprint(folder)


def test_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    """Which of the two the model would load is anybody's guess."""
    folder = checkpoint(tmp_path / "base", split=True)
    save_file({"a": WEIGHTS["b.weight"]}, folder / "b.weight.safetensors")
    with pytest.raises(BaseDamaged, match="two shards"):
        fingerprint(folder)


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"weight_map":{}}', '{"weight_map":["a"]}'])
def test_broken_index_is_refused(tmp_path: Path, text: str) -> None:
    """An index without a map of weights is named."""
    folder = checkpoint(tmp_path / "base", split=True)
    (folder / INDEX).write_text(text)
    with pytest.raises(BaseDamaged, match="index"):
        fingerprint(folder)


def test_index_does_not_lead_outside(tmp_path: Path) -> None:
    """A path in an index is taken by its last name alone."""
    folder = checkpoint(tmp_path / "base", split=True)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(BaseDamaged, match="passwd of the base is missing"):
        fingerprint(folder)


@pytest.mark.parametrize("config", ["nope", [], {}, {"model_type": "llama", "hidden_size": 0}])
def test_broken_config_is_refused(tmp_path: Path, config: object) -> None:
    """Sizes that are not in config.json are not guessed."""
    with pytest.raises(BaseDamaged, match=r"config\.json"):
        read_base(checkpoint(tmp_path / "base", config=config))


def test_sizes_of_real_models(tmp_path: Path) -> None:
    """The names that transformers' families use are understood, with what they leave out."""
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(llama).save_pretrained(tmp_path / "llama")
    GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=4)).save_pretrained(tmp_path / "gpt2")
    first, second = read_base(tmp_path / "llama"), read_base(tmp_path / "gpt2", "mine")
    assert (first.name, first.hidden, first.layers, first.kv_heads, first.head_dim) == ("llama", 16, 3, 2, 4)
    assert (second.name, second.hidden, second.layers, second.kv_heads, second.head_dim) == ("mine", 16, 2, 4, 4)
    assert first.fingerprint != second.fingerprint
