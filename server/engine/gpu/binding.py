"""The Triton kernels as functions of tensors. Knows tensors; no model.

Tiles are wide enough for the matrix units, which take sixteen rows and sixteen columns at least.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton

from server.engine.gpu import attention
from server.engine.gpu import rows as small
from server.engine.kernels import Layer, Rows, check_shapes

MAX_HEAD = 256
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
GATED = 1024
"""Numbers of a gate that one program computes."""
SUMMED = 4096
"""Logits that a program adds up at a time."""
TILE = 16
QUERIES = 64
"""Queries of a run that one program takes, those of all heads that share a key head counted."""
WAVES = 2
"""Programs a multiprocessor for one decode: so many that none of them has nothing to read."""
MAX_SPLITS = 32
MOST_KEYS, KEY_BYTES = 64, 2**14
"""Keys that a program reads at a time, and their bytes at most: several such blocks are on their way at once, in the
memory that a multiprocessor's programs share, and the smallest devices have 100 kB of it."""

Launch = Callable[..., None]
"""A kernel, its grid, its arguments."""


def launch(kernel: Any, grid: tuple[int, ...], *given: Any, **named: Any) -> None:
    """On the current stream of the current device."""
    kernel[grid](*given, **named)


class GpuKernels:
    """The kernels for one dtype of CUDA tensors, as `Kernels` says; `processors` is what the device has.

    How a slot is shared out among programs follows the number of rows, never their numbers.
    """

    def __init__(self, dtype: torch.dtype, processors: int, launch: Launch = launch) -> None:
        self.dtype = dtype
        self._processors = processors
        self._launch = launch

    @staticmethod
    def fits(size: int) -> bool:
        return size <= MAX_HEAD

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        out, size = torch.empty_like(x), x.shape[-1]
        block = triton.next_power_of_2(size)
        self._launch(small.norm, (x.numel() // size,), x, weight, out, eps, SIZE=size, BLOCK=block)
        return out

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[-1] // 2
        out = x.new_empty(*x.shape[:-1], size)
        self._launch(small.gate, (out.numel() // size, triton.cdiv(size, GATED)), x, out, size, BLOCK=GATED)
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
        width, half = x.shape[-1], cos.shape[-1] // 2
        grid = (x.numel() // width, heads + kv_heads)
        self._launch(
            small.rotate, grid, x, cos, sin, *(norms or (x, x)), eps, heads, width,
            HALF=half, BLOCK=triton.next_power_of_2(half), NORMED=norms is not None,
        )  # fmt: skip

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: Layer, rows: Rows) -> torch.Tensor:
        check_shapes(q, k, v, layer, rows)
        q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k, v))
        (heads, count, size), decodes = q.shape, rows.decodes
        out = q.new_empty(count, heads, size) if decodes == count else q.new_zeros(count, heads, size)
        if decodes:
            splits = self._splits(len(k) * (count if rows.apart else decodes))
            self._ones(q[:, :decodes], k, v, layer, rows, out, splits)
        if rows.runs:
            given = (part for x in (k, v) for part in (x.stride(1), x.stride(0)))
            at = rows.slots[decodes:], rows.positions[decodes:]
            self._launch(
                attention.write, (count - decodes, len(k)), k[:, decodes:], v[:, decodes:], *given,
                layer.keys, layer.values, layer.spans, *at, len(k), SIZE=size, DIMS=_tile(size),
            )  # fmt: skip
            self._runs(q, layer, rows, out)
        return out

    def attend_beside(
        self, q: torch.Tensor, rows: torch.Tensor, table: torch.Tensor, layer: int, kv_heads: int
    ) -> torch.Tensor:
        (heads, _, size), count = q.shape, len(rows)
        q = q if q.stride(2) == 1 else q.contiguous()
        out = q.new_empty(count, heads, size)
        self._launch(
            attention.attend_beside, (count, kv_heads), q, q.stride(1), q.stride(0), rows, table, out, layer, count,
            kv_heads, size**-0.5, **_tiles(q, kv_heads), M=_tile(heads // kv_heads),
        )  # fmt: skip
        return out

    @staticmethod
    def best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, ids = logits.max(-1)  # NaN wins a maximum
        return values.float(), ids

    def log_sums(self, logits: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(best)
        self._launch(small.log_sum, (len(logits),), logits, best, out, logits.shape[1], BLOCK=SUMMED)
        return out

    def _ones(  # noqa: PLR0913, PLR0917 - one kernel's inputs
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: Layer,
        rows: Rows,
        out: torch.Tensor,
        splits: int,
    ) -> None:
        """One query a slot, q [H, n, D]; the first n of out [N, H, D] get the answers."""
        (heads, count, size), kv_heads = q.shape, layer.keys.shape[1]
        parts, tops = out, out
        if splits > 1:
            parts = torch.empty(count, heads, splits, size, device=q.device)
            tops = torch.empty(count, heads, splits, 2, device=q.device)
        strides = (part for x in (q, k, v) for part in (x.stride(1), x.stride(0)))
        self._launch(
            attention.attend_one, (count, kv_heads, splits), q, k, v, *strides, layer.keys, layer.values, layer.spans,
            rows.slots, rows.positions, out, parts, tops, kv_heads, *self._call(layer),
            M=_tile(heads // kv_heads), SPLITS=splits, CAPPED=layer.softcap is not None, **_tiles(q, kv_heads),
        )  # fmt: skip
        if splits > 1:
            self._launch(
                attention.join, (count, heads), parts, tops, rows.slots, out, heads,
                SIZE=size, DIMS=_tile(size), SPLITS=splits,
            )  # fmt: skip

    def _runs(self, q: torch.Tensor, layer: Layer, rows: Rows, out: torch.Tensor) -> None:
        group = len(q) // layer.keys.shape[1]
        wide = max(QUERIES, triton.next_power_of_2(group))
        blocks = rows.blocks(wide // group)
        self._launch(
            attention.attend_run, (len(blocks), layer.keys.shape[1]), q, q.stride(1), q.stride(0), layer.keys,
            layer.values, layer.spans, blocks, out, layer.keys.shape[1], *self._call(layer),
            M=wide, CAPPED=layer.softcap is not None, **_tiles(q, layer.keys.shape[1]), num_stages=2,
        )  # fmt: skip

    def _splits(self, programs: int) -> int:
        """A power of two: parts of a slot, so that so many programs fill the device a few times over."""
        wanted = min(max(WAVES * self._processors // programs, 1), MAX_SPLITS)
        return 1 << (wanted.bit_length() - 1)

    @staticmethod
    def _call(layer: Layer) -> tuple[int, float, float]:
        return layer.window, layer.scale, layer.softcap or 1.0


def _tile(rows: int) -> int:
    """What holds so many rows and suits the matrix units."""
    wide: int = triton.next_power_of_2(rows)
    return max(TILE, wide)


def _tiles(q: torch.Tensor, kv_heads: int) -> dict[str, int]:
    """Of queries [H, N, D]: those that share a key head, a head's size, its tile, and as many keys as fit beside."""
    dims = _tile(q.shape[-1])
    keys = max(TILE, min(MOST_KEYS, KEY_BYTES // (dims * q.dtype.itemsize)))
    return {"GROUP": len(q) // kv_heads, "SIZE": q.shape[-1], "DIMS": dims, "BLOCK": keys}
