"""The frozen base: an unmodified transformers model, loaded once, refused by name where it cannot be served.

Knows checkpoints, dtypes and embeddings; no requests. Only safetensors weights, never code from a checkpoint.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from prompt_store.base import read_base
from prompt_store.errors import BaseDamaged
from prompt_store.metadata import Base
from server.engine.adapters import attentions, lacking
from server.engine.checkpoint import BadBase, Shape, check_directory, check_whole, eos_ids, parameters_in, shape_of
from server.engine.fused import FusedLayer
from server.engine.gpu.graphs import CudaRecorder
from server.engine.kernels import Kernels
from server.engine.layers import exchange
from server.engine.likeness import fuse
from server.engine.native.binding import kernels as native_kernels
from server.engine.norms import FusedRMSNorm, fused_norms
from server.engine.packing import MergedLinear, keep_few_shapes, packed_linears, packing_works
from server.engine.quantized import of_8_bits

FAMILIES = (
    "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "opt", "phi3", "qwen2", "qwen3",
)  # fmt: skip
"""`model_type`s whose answers are proved equal to transformers' own, token for token; others are tried at start-up."""

SMALL_BYTES = 256 * 2**20
"""A base whose float32 weights stay below this is served in float32 on a CPU: exact, and it costs little."""


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


def kernels_for(dtype: torch.dtype, device: torch.device, shape: Shape) -> Kernels | str:
    """Those for tensors of `dtype` on `device`, or why there are none for a base of such heads."""
    if device.type != "cuda":
        return native_kernels(dtype, device)
    try:
        from server.engine.gpu import trial  # noqa: PLC0415 - Triton comes with torch for CUDA alone, and takes its time
    except ImportError as error:
        return f"no Triton: {error}"
    return trial.kernels(dtype, device, trial.Heads(shape.heads, shape.kv_heads, shape.head_dim))


class BaseModel:
    """The model on its device, its shape, its end ids, its identity (`base`) and how many numbers it has.

    `attentions`: every layer's, by number. `speedup`: what kernels do for it, in words. `recorder`: makes what
    records the passes of an engine (see `replays`), where that pays.
    `no_adapters`: why this base cannot run adapters, None when it can.
    """

    def __init__(self, model: nn.Module, config: PreTrainedConfig, base: Base, eos_ids: frozenset[int]) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.config = config
        self.base = base
        self.eos_ids = eos_ids
        self.shape = shape_of(config)
        self.embedding = model.get_input_embeddings()  # type: ignore[operator]
        self.parameters = sum(one.numel() for one in model.parameters())  # packed layers will have none to count
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.packed = 0
        self.fused: list[FusedLayer] = []
        self.int8 = False
        self._attending: Any = None
        self.kernels: Kernels | None = None
        self.recorder: Any = None
        self.speedup = "not asked for"
        self.attentions = attentions(model)
        self.no_adapters = lacking(config.model_type, self.attentions)

    @classmethod
    @one_thread()
    def load(  # noqa: PLR0913 - by name, and each with a default
        cls,
        path: Path,
        *,
        name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        packed: bool = True,
        native: bool = True,
        weights: str = "dtype",
    ) -> "BaseModel":
        """Reads `path` (see `locate`), known as `name`, else as its folder. Raises BadBase: why it cannot be served.

        `packed` and `native`: faster ways to the same numbers, which leave a model that cannot be trained.
        `weights`: "dtype", or "int8" for linear layers of 8 bits (see `quantized`), which native kernels multiply.
        """
        check_directory(path)
        try:
            base = read_base(path, name or path.resolve().name)
        except BaseDamaged as error:
            raise BadBase(str(error)) from error
        where = choose_device(device)
        keep_few_shapes()
        chosen = choose_dtype(dtype, where, parameters_in(path))
        try:
            config = AutoConfig.from_pretrained(path)  # nosec B615  # a folder
            found: Any = AutoModelForCausalLM.from_pretrained(  # nosec B615  # a folder
                path, config=config, dtype=chosen, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise BadBase(f"{path}: config.json and weights give no model: {error}") from error
        model, told = found
        check_whole(path, told)
        for parameter in model.parameters():  # a copy: the file may be truncated while a mapping of it is read
            parameter.data = parameter.data.clone()
        nn.Module.to(model, where)
        loaded = cls(model, config, base, eos_ids(path, config))
        if packed:
            exchange(loaded.model, fused_norms)
        if weights == "int8" and not native:
            raise BadBase("weights of 8 bits want the native kernels, which --no-native leaves out")
        if weights == "int8":
            loaded.quantize()
        elif packed and where.type == "cpu" and packing_works(chosen):
            loaded.packed = exchange(loaded.model, packed_linears)
        elif packed and where.type == "cuda":
            loaded.packed = exchange(loaded.model, partial(packed_linears, make=MergedLinear))
        if packed and native:
            loaded.speed_up(kernels_for(chosen, where, loaded.shape))
        return loaded

    def quantize(self) -> None:
        """Linear layers of 8 bits. Raises BadBase where there is no kernel for them."""
        found = native_kernels(self.dtype, self.device)
        if isinstance(found, str):
            raise BadBase(f"weights of 8 bits want native kernels: {found}")
        if not found.int8:
            raise BadBase("weights of 8 bits want a CPU with AVX512-VNNI")
        self.packed = exchange(self.model, partial(packed_linears, make=partial(of_8_bits, kernels=found)))
        self.int8 = True

    def speed_up(self, found: Kernels | str) -> None:
        """With kernels, or without and why: where there are none for this size of head; `speedup` tells."""
        if isinstance(found, str) or not found.fits(self.shape.head_dim):
            self.speedup = f"no: {found}" if isinstance(found, str) else f"no: none for heads of {self.shape.head_dim}"
            return
        self.kernels, self.fused = found, fuse(self.model, found, coarse=self.int8)
        for module in self.model.modules():
            if isinstance(module, FusedRMSNorm) and module.weight.dtype == self.dtype:
                module.kernels = found
        self.speedup = "all layers" if len(self.fused) == self.shape.layers else "attention and norms"
        self.recorder = CudaRecorder if self.device.type == "cuda" else None

    def attend_with(self, function: Any, name: str) -> None:
        """Sets the attention function of all layers, known to transformers as `name`. Nothing when it is that one."""
        if self._attending is function:
            return
        self._attending = function
        self.model.set_attn_implementation(name)  # type: ignore[operator]
        for layer in self.fused:
            layer.attend = function

    def attend_no_more(self, function: Any) -> None:
        """Nothing is kept of an attention function whose engine has ended; nothing happens when another one is set."""
        if self._attending is function:
            self._attending = None
            for layer in self.fused:
                layer.attend = None

    @contextmanager
    def as_it_was(self, implementation: str) -> Iterator[None]:
        """The family's own layers with an attention function of transformers', while this is open."""
        self._attending = None
        self.model.set_attn_implementation(implementation)  # type: ignore[operator]
        for layer in self.fused:
            layer.take_off()
        try:
            yield
        finally:
            for layer in self.fused:
                layer.put_on()
                layer.attend = None

    def tensor(self, learnt: Any) -> torch.Tensor:
        """Learnt numbers, float32, where the model is and in its dtype."""
        return torch.as_tensor(learnt).to(self.device, self.dtype)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [1, N] -> [1, N, d], after any embedding scale of the family."""
        embedded: torch.Tensor = self.embedding(ids)
        return embedded

    def logits(self, embedded: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """One forward pass over a packed row; logits [R, V] of the wanted `rows`, in the base's dtype."""
        output = self.model(inputs_embeds=embedded, position_ids=positions, use_cache=False, logits_to_keep=rows)
        logits: torch.Tensor = output.logits[0]
        return logits

    def best(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every row of logits [R, V]: the largest, NaN where there is one, and its id."""
        if self.kernels is not None and self._takes(logits):
            return self.kernels.best(logits)
        values, ids = logits.float().max(-1)  # NaN wins a maximum; in bfloat16 it takes six times as long
        return values, ids

    def log_sums(self, logits: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        """Of every row of logits [R, V], whose largest is `best` [R]: minus that one's log-probability, float32 [R]."""
        if self.kernels is not None and self._takes(logits):
            return self.kernels.log_sums(logits, best)
        return -torch.log_softmax(logits.float(), -1).max(-1).values  # a sum alone would split one row over threads

    def _takes(self, logits: torch.Tensor) -> bool:
        """Whether a kernel can read them; some families give float32 whatever they compute in."""
        return logits.dtype == self.dtype and logits.is_contiguous()

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
