"""PEFT's files and ours: a bare adapter_model.safetensors in, an adapter directory out and in.

The official LLaMA-Adapter's tensors come in the same way.

Reads what PEFT's prompt methods write (0.18 and later) without importing it. Knows no tasks and no store.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prompt_store import container
from prompt_store.container import Tensor
from prompt_store.errors import PromptError
from prompt_store.llama_adapter import is_official, read_official
from prompt_store.metadata import MAX_LENGTH, Base, Kind, Metadata
from prompt_store.peft_others import method_of
from prompt_store.prompt import KEY, PromptFile, SoftPrompt, build
from prompt_store.template import Template

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
FILE_LIMIT = 2**30
"""Bytes of a weights file that is read from a directory."""

EMBEDDINGS = "prompt_embeddings"
MULTITASK = frozenset({EMBEDDINGS, "prefix_task_cols", "prefix_task_rows"})
ADAPTION = re.compile(r"(?:.*\.)?(?:layers\.([0-9]{1,4})\.self_attn|h\.([0-9]{1,4})\.attn)\.adaption_(prompt|gate)")
"""Llama's and GPT-2's names."""
NAMED = re.compile(r'"([^"\\]{1,256})":\{')
"""A tensor's name in a header that is not read."""
KINDS: Mapping[str, Kind] = {
    "PROMPT_TUNING": "embeddings",
    "P_TUNING": "embeddings",
    "CPT": "embeddings",
    "MULTITASK_PROMPT_TUNING": "embeddings",
    "PREFIX_TUNING": "prefix",
    "CARTRIDGE": "prefix",
    "ADAPTION_PROMPT": "adapter",
}
"""PEFT's types and what their files become."""


def is_peft(data: bytes) -> bool:
    """Whether a safetensors file is not one of ours. Raises PromptError if it is no safetensors file at all."""
    try:
        return KEY not in container.parse_header(data).metadata
    except PromptError as error:
        if error.code == "header_too_large":  # LoRA on every layer of a large base: say so, and not how long it is
            seen = data[8 : 8 + container.HEADER_LIMIT].decode("latin-1")
            _check_names([match[1] for match in NAMED.finditer(seen)])
        raise


def convert(  # noqa: PLR0913 - one argument per query parameter of an upload
    data: bytes,
    base: Base,
    *,
    template: str = "{input}",
    target_delimiter: str = " ",
    labels: Sequence[str] | None = None,
    description: str | None = None,
    kind: Kind | None = None,
    task_index: int | None = None,
) -> PromptFile:
    """A bare PEFT file as one of ours. The same arguments always give the same bytes; only sizes of `base` are used.

    `kind` decides where the width fits both embeddings and prefix; `task_index` chooses in a MULTITASK file of
    several tasks.
    """
    _check_names([entry.name for entry in container.parse_header(data).entries])
    _, tensors = container.read(data)
    prompt = _soft_prompt(tensors, base, kind, task_index)
    container.check_library_agrees(data)
    fields = {
        "format": 1,
        "kind": prompt.kind,
        "length": prompt.length,
        "template": template,
        "target_delimiter": target_delimiter,
        "labels": None if labels is None else list(labels),
        "description": description,
    }
    return build(prompt, Metadata.from_mapping(fields))


def _check_names(names: Sequence[str]) -> None:
    """Before dtypes and shapes: of a file of another method everything is wrong, and only this helps to know."""
    method = None if any(ADAPTION.fullmatch(name) for name in names) else method_of(names)
    if method is not None:
        changes = "which changes the base that all tasks share: it is not served"
        raise PromptError("wrong_tensors", f"this is {method}, {changes}")


def read_directory(folder: Path) -> tuple[bytes, Kind]:
    """The weights of a PEFT adapter directory, for `convert`, and the kind that its type says: never ambiguous."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        if (folder / WEIGHTS).stat().st_size > FILE_LIMIT:
            raise PromptError("file_too_large", f"{WEIGHTS} may have {FILE_LIMIT} bytes")
        data = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError:
        raise PromptError(
            "bad_directory", f"a PEFT directory holds {CONFIG} and {WEIGHTS} (pickles are not read)"
        ) from None
    except (ValueError, RecursionError):
        raise PromptError("bad_directory", f"{CONFIG} is not JSON") from None
    kind = KINDS.get(str(config.get("peft_type"))) if isinstance(config, dict) else None
    if kind is None:
        raise PromptError(
            "unsupported_kind", f"the types that can be read are {', '.join(KINDS)}; LoRA and others change the base"
        )
    return data, kind


def to_peft(file: PromptFile, folder: Path) -> None:
    """Write `folder` so that `PeftModel.from_pretrained` loads it. PEFT puts every row in front of the text."""
    if file.prompt.kind == "text":
        raise PromptError("unsupported_kind", "kind text is not written as a PEFT directory: it has no tensors")
    sections = Template.parse(file.metadata.template, file.metadata.kind, file.metadata.length).sections
    if any(section.rows for section in sections[1:]):
        raise PromptError("bad_template", "PEFT puts every row in front of the text; this template has slots behind it")
    tensors, config = _peft_of(file.prompt, file.metadata.base)
    if file.prompt.kind != "adapter":
        config |= {"num_transformer_submodules": 1, "num_virtual_tokens": file.prompt.length}
    config |= {
        "base_model_name_or_path": None if file.metadata.base is None else file.metadata.base.name,
        "inference_mode": True,
        "task_type": "CAUSAL_LM",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(container.write({"format": "pt"}, tensors))
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _peft_of(prompt: SoftPrompt, base: Base | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if prompt.kind == "adapter":
        return _adaption_prompts(prompt, base)
    if prompt.kind == "embeddings":
        weights = prompt.tensors["embeddings"]
        config = {"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "RANDOM", "token_dim": weights.shape[1]}
        return {EMBEDDINGS: weights}, config
    layers, heads, length, size = prompt.tensors["key"].shape
    both = np.stack([_raw(prompt.tensors["key"]), _raw(prompt.tensors["value"])], axis=1)
    rows = both.transpose(3, 0, 1, 2, 4)  # [L, 2, H, p, D] -> [p, L, 2, H, D]
    config = {
        "peft_type": "PREFIX_TUNING",
        "num_layers": layers,
        "num_attention_heads": heads,
        "token_dim": heads * size,
        "encoder_hidden_size": heads * size,
        "prefix_projection": False,
    }
    shape = (length, layers * 2 * heads * size)
    return {EMBEDDINGS: Tensor(prompt.tensors["key"].dtype, shape, np.ascontiguousarray(rows).tobytes())}, config


def _adaption_prompts(prompt: SoftPrompt, base: Base | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """By Llama's names. Raises PromptError where PEFT has no place for what the file holds."""
    if base is None:
        raise PromptError("unsupported_kind", "PEFT names an adapter's layers: the file must name its base")
    prompts, gate = prompt.tensors["prompts"], prompt.tensors["gate"]
    gates = _raw(gate)
    if (gates != gates[:, :1]).any():
        raise PromptError("unsupported_kind", "PEFT has one gate a layer; these heads have gates of their own")
    first = base.layers - prompts.shape[0]
    tensors = {}
    for index, rows in enumerate(_raw(prompts)):
        name = f"base_model.model.model.layers.{first + index}.self_attn.adaption"
        tensors[f"{name}_gate"] = Tensor(gate.dtype, (1,), gates[index, :1].tobytes())
        tensors[f"{name}_prompt"] = Tensor(prompts.dtype, (1, *rows.shape), rows.tobytes())
    config = {"peft_type": "ADAPTION_PROMPT", "adapter_len": prompt.length, "adapter_layers": prompts.shape[0]}
    return tensors, {**config, "target_modules": "self_attn"}


def _soft_prompt(tensors: Mapping[str, Tensor], base: Base, kind: Kind | None, task_index: int | None) -> SoftPrompt:
    if tensors.keys() == MULTITASK:
        return _embeddings(_multitask(tensors, task_index), base, kind)
    if task_index is not None:
        raise PromptError("bad_task_index", "only a file of MULTITASK_PROMPT_TUNING has tasks to choose from")
    if tensors.keys() == {EMBEDDINGS}:
        weights = tensors[EMBEDDINGS]
        _check_rank(EMBEDDINGS, weights, 2)
        if _kind_by_width(weights.shape[1], base, kind) == "embeddings":
            return _embeddings(weights, base, kind)
        return _prefix(weights, base)
    if is_official(tensors):
        return read_official(tensors, base, kind)
    matches = [ADAPTION.fullmatch(name) for name in tensors]
    if tensors and all(matches):
        return _adapter(tensors, base, kind)
    raise PromptError("wrong_tensors", f"a file of a PEFT prompt method holds {EMBEDDINGS} (or adaption prompts) alone")


def _kind_by_width(width: int, base: Base, kind: Kind | None) -> Kind:
    widths: dict[Kind, int] = {"embeddings": base.hidden, "prefix": 2 * base.layers * base.kv_heads * base.head_dim}
    fitting: list[Kind] = [name for name, wanted in widths.items() if wanted == width and kind in {None, name}]
    if len(fitting) == 2:
        raise PromptError("ambiguous_kind", f"width {width} fits embeddings and prefix; say which with kind")
    if not fitting:
        wanted = " or ".join(f"{size} ({name})" for name, size in widths.items() if kind in {None, name})
        raise PromptError("wrong_shape", f"{EMBEDDINGS} must have width {wanted or 'of another kind'}, got {width}")
    return fitting[0]


def _embeddings(weights: Tensor, base: Base, kind: Kind | None) -> SoftPrompt:
    if kind not in {None, "embeddings"}:
        raise PromptError("wrong_shape", f"the file holds embeddings, not what kind {kind} has")
    if weights.shape[1] != base.hidden:
        raise PromptError("wrong_shape", f"embeddings must have width {base.hidden}, got {weights.shape[1]}")
    return SoftPrompt("embeddings", weights.shape[0], {"embeddings": weights})


def _multitask(tensors: Mapping[str, Tensor], task_index: int | None) -> Tensor:
    """PEFT's product of a shared prompt [V, d] and one task's low-rank factors [tasks, V, r] and [tasks, r, d]."""
    shared, cols, rows = (tensors[name] for name in (EMBEDDINGS, "prefix_task_cols", "prefix_task_rows"))
    _check_rank(EMBEDDINGS, shared, 2)
    _check_rank("prefix_task_cols", cols, 3)
    _check_rank("prefix_task_rows", rows, 3)
    tasks, rank = cols.shape[0], cols.shape[2]
    if cols.shape != (tasks, shared.shape[0], rank) or rows.shape != (tasks, rank, shared.shape[1]):
        raise PromptError("wrong_shape", "the factors of the tasks do not fit the shared prompt")
    if task_index is None and tasks == 1:
        task_index = 0
    if task_index is None or not 0 <= task_index < tasks:
        raise PromptError("bad_task_index", f"the file holds {tasks} tasks: task_index must be from 0 to {tasks - 1}")
    with np.errstate(over="ignore", invalid="ignore"):
        product = shared.float32() * (cols.float32()[task_index] @ rows.float32()[task_index])
    return Tensor.from_float32(product, shared.dtype)


def _prefix(weights: Tensor, base: Base) -> SoftPrompt:
    length = weights.shape[0]
    values = _raw(weights).reshape(length, base.layers, 2, base.kv_heads, base.head_dim)
    shape = (base.layers, base.kv_heads, length, base.head_dim)
    halves = (np.ascontiguousarray(values[:, :, half].transpose(1, 2, 0, 3)).tobytes() for half in (0, 1))
    key, value = (Tensor(weights.dtype, shape, half) for half in halves)
    return SoftPrompt("prefix", length, {"key": key, "value": value})


def _adapter(tensors: Mapping[str, Tensor], base: Base, kind: Kind | None) -> SoftPrompt:
    """Adaption prompts of the topmost layers, stacked from the lowest of them up; PEFT's gate has no tanh."""
    found: dict[tuple[str, int], Tensor] = {}
    for name, tensor in tensors.items():
        match = ADAPTION.fullmatch(name)
        if match is not None:
            found[match[3], int(match[1] or match[2])] = tensor
    count = len(tensors) // 2
    layers = range(max(0, base.layers - count), base.layers)
    if found.keys() != {(part, layer) for part in ("prompt", "gate") for layer in layers} or len(tensors) != 2 * len(
        layers
    ):
        raise PromptError(
            "wrong_tensors", f"adaption prompts must stand on the topmost of {base.layers} layers, each with a gate"
        )
    prompts = [found["prompt", layer] for layer in layers]
    gates = [found["gate", layer] for layer in layers]
    length = prompts[0].shape[1] if len(prompts[0].shape) == 3 else 0
    if (
        kind not in {None, "adapter"}
        or any(tensor.shape != (1, length, base.hidden) for tensor in prompts)
        or not length
    ):
        raise PromptError("wrong_shape", f"each adaption prompt must have shape [1, length, {base.hidden}]")
    if any(tensor.shape != (1,) for tensor in gates):
        raise PromptError("wrong_shape", "each adaption gate must have shape [1]")
    stacked = Tensor(prompts[0].dtype, (count, length, base.hidden), b"".join(tensor.data for tensor in prompts))
    gate = Tensor(gates[0].dtype, (count, 1), b"".join(tensor.data for tensor in gates))
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        raise PromptError("bad_dtype", "all tensors of a file must have one dtype")
    return SoftPrompt("adapter", length, {"prompts": stacked, "gate": gate})


def _raw(tensor: Tensor) -> NDArray[Any]:
    """The bits, to be moved about without rounding."""
    return np.frombuffer(tensor.data, "<u4" if tensor.dtype == "F32" else "<u2").reshape(tensor.shape)


def _check_rank(name: str, tensor: Tensor, rank: int) -> None:
    if len(tensor.shape) != rank or not 1 <= tensor.shape[0] <= MAX_LENGTH or 0 in tensor.shape:
        raise PromptError("wrong_shape", f"{name} must have {rank} dimensions and at most {MAX_LENGTH} rows")
