"""A base from its directory, for whoever has no server: safetensors weights only, never code from a checkpoint.

Knows transformers' files; no training.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from prompt_store.base import read_base
from tuning.base import FrozenBase
from tuning.tokenizer import Tokenizer


def load(folder: Path, *, device: str = "cpu") -> FrozenBase:
    """In float32. Raises OSError for what is no checkpoint, BaseDamaged, and ValueError without an end id."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)  # nosec B615
    ends = model.generation_config.eos_token_id if isinstance(model.generation_config, GenerationConfig) else None
    ends = model.config.eos_token_id if ends is None else ends
    ids = ends if isinstance(ends, list) else [ends] if ends is not None else []
    base = read_base(folder, folder.resolve().name)
    return FrozenBase(model.to(device), Tokenizer.load(folder), base, sorted(ids))
