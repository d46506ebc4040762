"""A prompt file back into what the base is shown, whatever its kind. Knows the file format and tensors; no training."""

import torch

from prompt_store.prompt import PromptFile
from prompt_store.template import Template
from tuning.base import FrozenBase
from tuning.encoding import Encoder
from tuning.soft import Soft


def soft_of(base: FrozenBase, file: PromptFile) -> Soft:
    """Its tensors, float32. Raises ValueError for a file of another base."""
    named = file.metadata.base
    if named is not None and named.fingerprint != base.base.fingerprint:
        raise ValueError("the file was learnt on another base")
    tensors = {
        name: torch.from_numpy(tensor.float32().copy()).to(base.device) for name, tensor in file.prompt.tensors.items()
    }
    nothing = torch.zeros(0, base.base.hidden, device=base.device)
    if file.prompt.kind == "prefix":
        return Soft(nothing, deep=(tensors["key"], tensors["value"]))
    if file.prompt.kind == "adapter":
        return Soft(nothing, side=(tensors["prompts"], tensors["gate"]))
    return Soft(tensors.get("embeddings", nothing))


def encoder_of(base: FrozenBase, file: PromptFile, labels: tuple[str, ...] | None) -> Encoder:
    """How its examples become ids: its template, its delimiter, and the labels that are to be told apart."""
    metadata = file.metadata
    template = Template.parse(metadata.template, metadata.kind, metadata.length)
    tokenize, bos = base.tokenizer.encode, base.tokenizer.bos
    deep = metadata.length if metadata.kind == "prefix" else 0
    return Encoder(template, metadata.target_delimiter, tokenize, bos, base.ends[0], labels, deep)
