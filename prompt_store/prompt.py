"""The prompt file: a soft prompt and its metadata as one safetensors file. The only definition of it, both ways.

Knows no task names, no versions, no PEFT and no model beyond the sizes in `Base`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prompt_store import container
from prompt_store.container import DType, Tensor
from prompt_store.errors import PromptError
from prompt_store.metadata import Base, Kind, Metadata
from prompt_store.template import Template

__all__ = ["Kind", "PromptFile", "SoftPrompt", "Tensor", "build", "check_fits", "parse"]

KEY = "softprompt"
NAMES: Mapping[Kind, tuple[str, ...]] = {
    "text": (),
    "embeddings": ("embeddings",),
    "prefix": ("key", "value"),
    "adapter": ("gate", "prompts"),
}
LARGEST: Mapping[DType, float] = {"F32": 3.4028235e38, "F16": 65504.0, "BF16": 3.3895314e38}


@dataclass(frozen=True, slots=True)
class SoftPrompt:
    """Learnt tensors. `length` p counts pseudo-tokens; d hidden, L layers, H KV heads, D head size:

    text: none · embeddings: embeddings [p, d] · prefix: key, value [L, H, p, D] · adapter: prompts [L_top, p, d],
    gate [L_top, 1 or heads].
    """

    kind: Kind
    length: int
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class PromptFile:
    """`data` is the stored file, `digest` its lower-case hex sha256, header included."""

    metadata: Metadata
    prompt: SoftPrompt
    data: bytes
    digest: str


def digest_of(data: bytes) -> str:
    """The name of a stored file: the ETag, the blob's key, the engine's cache key."""
    return hashlib.sha256(data).hexdigest()


def parse(data: bytes) -> PromptFile:
    """Read a file of ours, strictly. Raises PromptError; the bytes are kept as they came."""
    texts, tensors = container.read(data)
    if texts.keys() != {KEY}:
        raise PromptError("bad_metadata", f"__metadata__ must hold {KEY} and nothing else")
    metadata = Metadata.from_json(texts[KEY])
    prompt = SoftPrompt(metadata.kind, metadata.length, tensors)
    _check_inside(prompt, metadata)
    return PromptFile(metadata, prompt, data, digest_of(data))


def build(prompt: SoftPrompt, metadata: Metadata) -> PromptFile:
    """Write a file of ours. The same tensors and metadata always give the same bytes. Raises what `parse` would."""
    return parse(container.write({KEY: metadata.to_json()}, prompt.tensors))


def check_fits(
    file: PromptFile, base: Base, *, max_norm: float, require_fingerprint: bool = False, dtype: DType = "F32"
) -> bool:
    """Raise unless the base can run the file in `dtype`; return whether the file names this very base.

    The safetensors library has the last word on its bytes.
    `max_norm` bounds the Euclidean norm of each row: absurd rows give finite logits, so nothing later notices them.
    """
    named = file.metadata.base
    if named is not None and named.fingerprint != base.fingerprint:
        raise PromptError("wrong_base", "the file was learnt on another base: the fingerprints differ")
    if named is None and require_fingerprint and file.metadata.kind != "text":
        raise PromptError("wrong_base", "the file does not name its base, and this server requires it")
    for name, expected in _shapes(file.prompt, base).items():
        _check_shape(name, file.prompt.tensors[name].shape, expected)
    for name, tensor in file.prompt.tensors.items():
        if max(float(np.abs(rows).max()) for rows in tensor.pieces()) > LARGEST[dtype]:
            raise PromptError("overflows_dtype", f"{name} holds a value that the base's {dtype} cannot")
        norm = max(float(np.sqrt(np.square(rows, dtype=np.float64).sum(axis=-1)).max()) for rows in tensor.pieces())
        if norm > max_norm:
            raise PromptError("norm_out_of_range", f"a row of {name} has norm {norm:.4g}, the limit is {max_norm:.4g}")
    container.check_library_agrees(file.data)
    return named is not None


def _check_inside(prompt: SoftPrompt, metadata: Metadata) -> None:
    """What can be said without a base: names, ranks, lengths, one dtype, finite values, a template that fits."""
    names = NAMES[prompt.kind]
    if tuple(sorted(prompt.tensors)) != names:
        wanted = ", ".join(names) or "no tensors"
        raise PromptError("wrong_tensors", f"kind {prompt.kind} holds exactly {wanted}, got others")
    for name, shape in _shapes(prompt, None).items():
        _check_shape(name, prompt.tensors[name].shape, shape)
    if len({tensor.dtype for tensor in prompt.tensors.values()}) > 1:
        raise PromptError("bad_dtype", "all tensors of a file must have one dtype")
    if not all(tensor.is_finite() for tensor in prompt.tensors.values()):
        raise PromptError("non_finite", "a tensor holds NaN or infinity")
    Template.parse(metadata.template, metadata.kind, metadata.length)


def _shapes(prompt: SoftPrompt, base: Base | None) -> dict[str, tuple[int | None, ...]]:
    """The shape of each tensor; None where any size will do: everything of the base's while there is none."""
    length, hidden = prompt.length, None if base is None else base.hidden
    if prompt.kind == "text":
        return {}
    if prompt.kind == "embeddings":
        return {"embeddings": (length, hidden)}
    if prompt.kind == "prefix":
        layers, heads, size = (base.layers, base.kv_heads, base.head_dim) if base else _sizes_of(prompt)
        return dict.fromkeys(("key", "value"), (layers, heads, length, size))
    adapted = prompt.tensors["prompts"].shape[:1]
    if base is not None and adapted[0] > base.layers:
        raise PromptError("wrong_shape", f"prompts is for {adapted[0]} layers, the base has {base.layers}")
    return {"prompts": (*adapted, length, hidden), "gate": (*adapted, None)}


def _sizes_of(prompt: SoftPrompt) -> tuple[int | None, int | None, int | None]:
    """Without a base, `value` must at least have the shape of `key`."""
    shape = prompt.tensors["key"].shape
    return (shape[0], shape[1], shape[3]) if len(shape) == 4 else (None, None, None)


def _check_shape(name: str, got: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    fits = len(got) == len(expected) and all(
        size >= 1 and want in {None, size} for size, want in zip(got, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise PromptError("wrong_shape", f"{name} must have shape [{wanted}], got {list(got)[:8]}")
