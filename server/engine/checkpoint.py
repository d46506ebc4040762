"""A checkpoint's directory, read before and beside its weights: what is in it, its sizes, why it cannot be served.

Only safetensors weights, never code from a checkpoint. Knows files and configs; no modules.
"""
# ruff: noqa: N818 - what happened reads better than SomethingError

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import GenerationConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from prompt_store.base import INDEX, config_of, json_of, shards, tensors_of

_FILES = ["*.safetensors", "*.json", "tokenizer.model", "*.txt"]


class BadBase(Exception):
    """The base cannot be served; the message names the file or the setting, and what would do."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the K/V cache needs to know of a base. `window`: positions that its local layers see, if it has any."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    window: int | None


def locate(model: str, revision: str | None = None) -> Path:
    """A directory as it is, or a Hub id's snapshot (safetensors and tokenizer files only)."""
    path = Path(model)
    if path.is_dir():
        return path
    if path.exists() or model.startswith((".", "/")):
        raise BadBase(f"--model {model}: not a directory")
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # whatever a Hub's answers make its client stumble over
        reason = " ".join(str(error).splitlines()[:3])  # advice on tokens follows
        raise BadBase(
            f"--model {model}: no such directory, and the Hub did not give a model of this name: {reason}"
        ) from error


def name_of(model: str) -> str:
    """What people call it: a Hub id as it is, a directory by its folder's name."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def check_directory(path: Path) -> dict[str, Any]:
    """The raw config of a checkpoint that can be loaded without running anybody's code. Raises BadBase."""
    config_file = path / "config.json"
    if not config_file.is_file():
        raise BadBase(f"{config_file} is missing: not a model directory")
    config = config_of(path)
    for name in ("config.json", "tokenizer_config.json"):
        if (path / name).is_file() and "auto_map" in json_of(path / name):
            raise BadBase(f"{path / name} wants code of its own (auto_map): never run")
    if config.get("is_encoder_decoder"):
        raise BadBase(f"{config.get('model_type')} is an encoder-decoder; decoder-only bases are served")
    if config.get("model_type") not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise BadBase(f"model_type {config.get('model_type')} is no causal language model that transformers knows")
    if not any(path.glob("*.safetensors")):
        raise BadBase(f"{path} holds no *.safetensors weights (pickled weights are never read)")
    for shard in shards(path):
        if not shard.is_file():
            raise BadBase(f"{shard} is missing{f', {INDEX} names it' if (path / INDEX).exists() else ''}")
    if (path / INDEX).exists():
        _check_index(path)
    return config


def _check_index(path: Path) -> None:
    """Every tensor stands in the shard that the index says: transformers believes neither, and would not miss it."""
    held = {shard.name: tensors_of(shard) for shard in shards(path)}
    for name, shard in json_of(path / INDEX)["weight_map"].items():
        if name not in held[Path(str(shard)).name]:
            raise BadBase(f"{path / INDEX} names a tensor that {shard} lacks: {name}")


def shape_of(config: PreTrainedConfig) -> Shape:
    """Raises BadBase for a config that lacks one of the sizes, or has several of it."""
    try:
        return _shape_of(config.get_text_config(decoder=True))
    except (AttributeError, TypeError, RuntimeError) as error:  # the last where layers differ in size
        raise BadBase(f"model_type {config.model_type} is not served: {error}") from None


def _shape_of(config: PreTrainedConfig) -> Shape:
    if getattr(config, "use_bidirectional_attention", None):
        raise BadBase(f"this {config.model_type} attends in both directions: it is no causal model")
    heads = int(config.num_attention_heads)
    return Shape(
        layers=int(config.num_hidden_layers),
        hidden=int(config.hidden_size),
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        vocabulary=int(config.vocab_size),
        context=_context(config),
        window=getattr(config, "sliding_window", None) or None,
    )


def _context(config: PreTrainedConfig) -> int:
    """Positions of one sequence.

    Rotary factors of type longrope change for a whole pass once any of its positions is beyond the original context:
    a long sequence would change its neighbours' answers.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    whole = int(config.max_position_embeddings)
    if rope.get("rope_type", rope.get("type")) != "longrope":
        return whole
    original = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    return min(whole, int(original or whole))


def check_whole(path: Path, told: Mapping[str, Iterable[Any]]) -> None:
    """transformers fills missing weights with noise, and leaves out those that config.json has no place for."""
    for what, names in (("lacks", told["missing_keys"]), ("has no place for", told["unexpected_keys"])):
        found = sorted(map(str, names))
        if found:
            raise BadBase(f"{path}: config.json and weights differ: the model {what} {len(found)}, {found[0]} first")


def eos_ids(path: Path, config: PreTrainedConfig) -> frozenset[int]:
    """Every end-of-sequence id of the generation config, else the model config's."""
    found = config.eos_token_id
    if (path / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(path)  # nosec B615  # a folder
        found = generation.eos_token_id if generation.eos_token_id is not None else found
    if found is None:
        return frozenset()
    return frozenset(found if isinstance(found, Iterable) else [found])


def parameters_in(path: Path) -> int:
    """Number of weights, from the safetensors headers alone."""
    shapes = (shape for shard in shards(path) for shape in tensors_of(shard).values())
    return sum(torch.Size(shape).numel() for shape in shapes)
