"""The compiled kernels as functions of tensors, or the reason why there are none.

Knows ctypes and tensors; no model. The shapes a caller promises are said where a function is; what a family's code
hands over is checked, what the engine's own modules promise is not.
"""

import ctypes
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from server.engine.kernels import Layer, Rows, check_shapes
from server.engine.native import build

MAX_HEAD = 256
LANES = 16
"""Numbers that the kernels take at a time, at most: a head's size has to be a multiple."""
BLOCK_ROWS = 16
"""Rows of a run that the kernels take together, at most."""
PANEL = 32
"""Outputs of an int8 layer whose weights lie together."""
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

_POINTER, _COUNT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS = {
    "linear_int8": [*[_POINTER] * 7, *[_COUNT] * 3],
    "norm": [_POINTER, _POINTER, _POINTER, _COUNT, _COUNT, _FLOAT],
    "attend_side": [_POINTER, _COUNT, _COUNT, *[_POINTER] * 7, *[_COUNT] * 5, _FLOAT],
    "best": [_POINTER, _POINTER, _POINTER, _COUNT, _COUNT],
    "log_sums": [_POINTER, _POINTER, _POINTER, _COUNT, _COUNT],
    "gate": [_POINTER, _POINTER, _COUNT, _COUNT],
    "rotate": [_POINTER, _COUNT, *[_POINTER] * 4, _FLOAT, *[_COUNT] * 4],
    "attend_rows": [*[_POINTER, _COUNT, _COUNT] * 3, *[_POINTER] * 6, *[_COUNT] * 8, _FLOAT, _FLOAT],
}


class NativeKernels:
    """The kernels for one dtype of CPU tensors, as `Kernels` says. All rows but a run's are computed by themselves.

    `level`: of the instruction set, one of those that `build` compiles for and that this CPU runs. `int8`: whether it
    has the products (AVX512-VNNI) that `linear_int8` is made of.
    """

    _attend_rows: Callable[..., None]
    _attend_side: Callable[..., None]
    _best: Callable[..., None]
    _gate: Callable[..., None]
    _linear_int8: Callable[..., None]
    _log_sums: Callable[..., None]
    _norm: Callable[..., None]
    _rotate: Callable[..., None]

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype, level: int) -> None:
        self.dtype = dtype
        self.int8 = level == max(build.LANES) and bool(library.softprompt_int8())
        for name, arguments in _ARGUMENTS.items():
            if name == "linear_int8" and not self.int8:
                continue
            function = getattr(library, f"{name}_{NAMES[dtype]}_v{level}")
            function.argtypes, function.restype = arguments, None
            setattr(self, f"_{name}", function)

    @staticmethod
    def fits(size: int) -> bool:
        return size % LANES == 0 and size <= MAX_HEAD

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        out, size = torch.empty_like(x), x.shape[-1]
        self._norm(x.data_ptr(), weight.data_ptr(), out.data_ptr(), x.numel() // size, size, eps)
        return out

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[-1] // 2
        out = x.new_empty(*x.shape[:-1], size)
        self._gate(x.data_ptr(), out.data_ptr(), out.numel() // size, size)
        return out

    def rotate(  # noqa: PLR0913, PLR0917 - one kernel's inputs
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: int,
        kv_heads: int,
        norms: tuple[torch.Tensor, torch.Tensor] | None = None,
        eps: float = 0.0,
    ) -> None:
        weights = (norms[0].data_ptr(), norms[1].data_ptr()) if norms else (None, None)
        rows, size = x.numel() // x.shape[-1], cos.shape[-1]
        self._rotate(
            x.data_ptr(), x.shape[-1], cos.data_ptr(), sin.data_ptr(), *weights, eps, rows, heads, kv_heads, size
        )  # fmt: skip

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: Layer, rows: Rows) -> torch.Tensor:
        """See `Kernels.attend`; keys, values, slots and positions contiguous."""
        check_shapes(q, k, v, layer, rows)
        (heads, count, size), (_, kv_heads, span, _) = q.shape, layer.keys.shape
        if q.dtype != self.dtype:
            raise ValueError(f"queries {q.dtype}: {self.dtype} is wanted")
        q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k, v))
        out = q.new_empty(count, heads, size)
        given = [part for x in (q, k, v) for part in (x.data_ptr(), x.stride(1), x.stride(0))]
        blocks = rows.blocks(BLOCK_ROWS)
        cache = [x.data_ptr() for x in (layer.keys, layer.values, out, rows.slots, rows.positions, blocks)]
        counts = len(blocks), rows.decodes, count, heads, kv_heads, span, size
        self._attend_rows(*given, *cache, *counts, layer.window, layer.scale, layer.softcap or 0.0)
        return out

    def linear_int8(
        self,
        x: torch.Tensor,
        weights: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
    ) -> torch.Tensor:
        """x W^T + bias + residual of contiguous x [..., d], rows quantized as they come -> [..., N].

        weights uint8 in panels (see `quantized`); scales, bias float32 [N]; residual contiguous [..., N].
        """
        size, width = x.shape[-1], len(scales)
        rows = x.numel() // size
        out, scratch = x.new_empty(*x.shape[:-1], width), torch.empty(rows * (size + 8), dtype=torch.uint8)
        more = (None if one is None else one.data_ptr() for one in (bias, residual))
        self._linear_int8(
            x.data_ptr(), weights.data_ptr(), scales.data_ptr(), *more, out.data_ptr(), scratch.data_ptr(),
            rows, size, width,
        )  # fmt: skip
        return out

    def attend_side(  # noqa: PLR0913, PLR0917 - one kernel's inputs
        self,
        q: torch.Tensor,
        rows: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        gates: torch.Tensor,
        which: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        (heads, _, size), (_, kv_heads, span, _) = q.shape, keys.shape
        if not q.dtype == keys.dtype == gates.dtype == self.dtype:
            raise ValueError(f"queries {q.dtype}, banks {keys.dtype}: {self.dtype} is wanted")
        q = q if q.stride(2) == 1 else q.contiguous()
        out = q.new_empty(len(rows), heads, size)
        inputs = (rows, keys, values, gates, which, lengths, out)
        self._attend_side(
            q.data_ptr(), q.stride(1), q.stride(0), *(one.data_ptr() for one in inputs),
            len(rows), heads, kv_heads, span, size, size**-0.5,
        )  # fmt: skip
        return out

    def best(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, indices = torch.empty(len(logits)), torch.empty(len(logits), dtype=torch.int64)
        self._best(logits.data_ptr(), values.data_ptr(), indices.data_ptr(), *logits.shape)
        return values, indices

    def log_sums(self, logits: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        sums = torch.empty_like(best)
        self._log_sums(logits.data_ptr(), best.data_ptr(), sums.data_ptr(), *logits.shape)
        return sums


def kernels(dtype: torch.dtype, device: torch.device, level: int | None = None) -> NativeKernels | str:
    """Those for tensors of `dtype` on `device`, or why there are none; of a lower `level` to compare them."""
    if device.type != "cpu" or dtype not in NAMES:
        return f"none for {str(dtype).removeprefix('torch.')} on {device.type}"
    library = _library()
    if isinstance(library, str):
        return library
    highest = int(library.softprompt_level())
    if level is not None and (level not in build.LANES or level > highest):
        return f"none of level {level}: this CPU runs {highest}"
    return NativeKernels(library, dtype, highest if level is None else level)


@cache
def _library() -> ctypes.CDLL | str:
    """The compiled library with its threads from torch's own team, or why it is not used."""
    try:
        return _load()
    except (OSError, AttributeError, ValueError) as error:
        return str(error)


def _load() -> ctypes.CDLL:
    """Raises OSError or AttributeError for what cannot be loaded, ValueError for what should not be used."""
    if not build.LIBRARY.is_file():
        raise ValueError("they were not compiled when this was installed, for want of gcc")
    if build.digest().encode() not in build.LIBRARY.read_bytes():  # before it is mapped: a part of one would kill us
        raise ValueError("they were compiled from another source")
    ctypes.CDLL(str(_openmp()), mode=ctypes.RTLD_GLOBAL)  # the one that is loaded already, for everybody to find
    return ctypes.CDLL(str(build.LIBRARY))


def _openmp() -> Path:
    """The OpenMP library that torch has loaded: another's team of threads would fight with torch's for the cores."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    files = {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    found = sorted(file for file in files if re.match(r"lib(?:gomp|i?omp5?)[-.].*so", Path(file).name))
    if not found:
        raise ValueError("torch has loaded no OpenMP library that gcc's code can use")
    own = str(Path(torch.__file__).parent)
    best = min(
        found, key=lambda path: ("gomp" in path, not path.startswith(own))
    )  # LLVM's, preloaded, serves torch too
    return Path(best)
