# ruff: noqa: N818 - what happened reads better than SomethingError
"""The frozen base: an unmodified transformers model, loaded once, refused by name where it cannot be served.

Knows checkpoints, dtypes and embeddings; no requests. Only safetensors weights, never code from a checkpoint.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from prompt_store.base import read_base
from prompt_store.errors import BaseDamaged
from prompt_store.metadata import Base
from server.engine.adapters import attentions, lacking
from server.engine.layers import exchange
from server.engine.norms import fused_norms
from server.engine.packing import packed_linears, packing_works

FAMILIES = (
    "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "opt", "phi3", "qwen2", "qwen3",
)  # fmt: skip
"""`model_type`s whose answers are proved equal to transformers' own, token for token; others are tried at start-up."""

SMALL_BYTES = 256 * 2**20
"""A base whose float32 weights stay below this is served in float32 on a CPU: exact, and it costs little."""

_FILES = ["*.safetensors", "*.json", "tokenizer.model", "*.txt"]


class BadBase(Exception):
    """The base cannot be served; the message names the file or the setting, and what would do."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on the calling thread alone. For work beside the engine's thread, loading included.

    libgomp counts the teams of all threads: a second team beside the engine's, even an idle one, makes the engine's
    workers sleep between operators instead of waiting awake, which doubled the time of a decode step (docs/log.md).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if "auto_map" in config:
        raise BadBase(f"{config_file} wants code of its own (auto_map): never run")
    if config.get("is_encoder_decoder"):
        raise BadBase(f"{config.get('model_type')} is an encoder-decoder; decoder-only bases are served")
    if config.get("model_type") not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise BadBase(f"model_type {config.get('model_type')} is no causal language model that transformers knows")
    if not any(path.glob("*.safetensors")):
        raise BadBase(f"{path} holds no *.safetensors weights (pickled weights are never read)")
    index = path / "model.safetensors.index.json"
    if index.is_file():
        for shard in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())):
            if not (path / shard).is_file():
                raise BadBase(f"{path / shard} is missing, {index.name} names it")
    return dict(config)


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


def choose_device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BadBase("--device cuda: torch sees no CUDA device")
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device, parameters: int) -> torch.dtype:
    """`auto`: bfloat16, except float32 for a small base on a CPU or a CPU without bfloat16 arithmetic."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if device.type != "cpu":
        return torch.bfloat16
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - torch has no public name for it
    return torch.bfloat16 if native and parameters * 4 > SMALL_BYTES else torch.float32


def _check_whole(path: Path, told: Mapping[str, Iterable[Any]]) -> None:
    """transformers fills missing weights with noise, and leaves out those that config.json has no place for."""
    for what, names in (("lacks", told["missing_keys"]), ("has no place for", told["unexpected_keys"])):
        found = sorted(map(str, names))
        if found:
            raise BadBase(f"{path}: config.json and weights differ: the model {what} {len(found)}, {found[0]} first")


def _eos_ids(path: Path, config: PreTrainedConfig) -> frozenset[int]:
    """Every end-of-sequence id of the generation config, else the model config's."""
    found = config.eos_token_id
    if (path / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(path)
        found = generation.eos_token_id if generation.eos_token_id is not None else found
    if found is None:
        return frozenset()
    return frozenset(found if isinstance(found, Iterable) else [found])


def parameters_in(path: Path) -> int:
    """Number of weights, from the safetensors headers alone."""
    total = 0
    for file in path.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                total += torch.Size(entry["shape"]).numel()
    return total


class BaseModel:
    """The model on its device, its shape, its end ids and its identity (`base`).

    `attentions`: every layer's, by number. `no_adapters`: why this base cannot run adapters, None when it can.
    """

    def __init__(self, model: nn.Module, config: PreTrainedConfig, base: Base, eos_ids: frozenset[int]) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.config = config
        self.base = base
        self.eos_ids = eos_ids
        self.shape = shape_of(config)
        self.embedding = model.get_input_embeddings()  # type: ignore[operator]
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.packed = 0
        self.attentions = attentions(model)
        self.no_adapters = lacking(config.model_type, self.attentions)

    @classmethod
    @one_thread()
    def load(
        cls, path: Path, *, name: str | None = None, device: str = "auto", dtype: str = "auto", packed: bool = True
    ) -> "BaseModel":
        """Reads `path` (see `locate`), known as `name`, else as its folder. Raises BadBase: why it cannot be served."""
        check_directory(path)
        try:
            base = read_base(path, name or path.resolve().name)
        except BaseDamaged as error:
            raise BadBase(str(error)) from error
        where = choose_device(device)
        chosen = choose_dtype(dtype, where, parameters_in(path))
        try:
            config = AutoConfig.from_pretrained(path)
            found: Any = AutoModelForCausalLM.from_pretrained(
                path, config=config, dtype=chosen, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise BadBase(f"{path}: {error}") from error
        model, told = found
        _check_whole(path, told)
        for parameter in model.parameters():  # a copy: the file may be truncated while a mapping of it is read
            parameter.data = parameter.data.clone()
        nn.Module.to(model, where)
        loaded = cls(model, config, base, _eos_ids(path, config))
        if packed:
            exchange(loaded.model, fused_norms)
        if packed and where.type == "cpu" and packing_works(chosen):
            loaded.packed = exchange(loaded.model, packed_linears)
        return loaded

    def tensor(self, learnt: Any) -> torch.Tensor:
        """Learnt numbers, float32, where the model is and in its dtype."""
        return torch.as_tensor(learnt).to(self.device, self.dtype)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [1, N] -> [1, N, d], after any embedding scale of the family."""
        embedded: torch.Tensor = self.embedding(ids)
        return embedded

    def logits(self, embedded: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """One forward pass over a packed row; float32 logits [R, V] of the wanted `rows`."""
        output = self.model(inputs_embeds=embedded, position_ids=positions, use_cache=False, logits_to_keep=rows)
        logits: torch.Tensor = output.logits[0].float()
        return logits

    @torch.inference_mode()
    @one_thread()
    def nearest(self, rows: Any, k: int) -> list[list[tuple[int, float]]]:
        """For each row, the `k` ids whose embeddings have the highest cosine with it, best first."""
        table = torch.nn.functional.normalize(self.embedding.weight.float(), dim=-1)
        wanted = torch.nn.functional.normalize(torch.as_tensor(rows).to(self.device).float(), dim=-1)
        best = torch.topk(wanted @ table.T, min(k, table.shape[0]), dim=-1)
        pairs: Sequence[tuple[list[int], list[float]]] = list(
            zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        return [list(zip(ids, cosines, strict=True)) for ids, cosines in pairs]
