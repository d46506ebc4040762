"""The keys and values of everything that runs, laid out for the longest sequence there is.

[layers, 2, slots, kv_heads, span, head_dim] over one buffer of a fixed size: `span` positions follow the longest live
sequence, so that what a decode step reads is contiguous (a CPU's batched matmul copies anything else first, a tenth of
a step). The longer a slot, the fewer there are. Knows slots and positions; not whose they are.
"""

from dataclasses import dataclass

import numpy as np
import torch

from server.engine.slots import GRAIN, Move, rounded


@dataclass(frozen=True, slots=True)
class KVShape:
    """Sizes of a cache: at most `slots` of at most `positions` each, and `area` positions in all."""

    layers: int
    slots: int
    kv_heads: int
    positions: int
    head_dim: int
    area: int


class KVCache:
    """Slot s holds one sequence's keys ([:, 0, s]) and values ([:, 1, s]) as cached, after the rotary step.

    `spans`: int64 [1], `span` once more, on the cache's device. A layer's keys begin at one address whatever the span.
    On a CPU the pages that no layout has reached yet are not backed by memory.
    """

    def __init__(self, shape: KVShape, like: torch.Tensor) -> None:
        self.positions = rounded(shape.positions)
        self._shape = shape
        self._buffer = _zeros((shape.layers, 2, shape.area * shape.kv_heads * shape.head_dim), like)
        self.spans = torch.zeros(1, dtype=torch.int64, device=like.device)
        self._lay_out(GRAIN)

    @staticmethod
    def bytes_per_position(layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        return layers * 2 * kv_heads * head_dim * dtype.itemsize

    def fit(self, positions: int, high: int) -> None:
        """Room for `positions` in each of the slots 0 .. `high` - 1, which keep what they hold.

        Grows by an eighth more than asked, so that growing costs little over a sequence's life, and shrinks when half
        would do. Out of memory nothing has happened yet. Raises ValueError beyond the area: who asks has counted wrong.
        """
        needed, held = rounded(positions), len(self.layers[0][0])
        if needed <= self.span < 2 * needed and high <= held:
            return
        if high * needed > self._shape.area:
            raise ValueError(f"{high} slots of {needed} positions, and an area of {self._shape.area}")
        most = self.positions if not high else min(self.positions, self._shape.area // high // GRAIN * GRAIN)
        span = min(rounded(positions + positions // 8), most)
        before, kept, held = self.tensor, min(self.span, span), min(held, high)
        shape = self._shape
        copied = self._buffer.new_empty(held, shape.kv_heads, kept, shape.head_dim)
        self._lay_out(span)
        for old, new in zip(before.flatten(0, 1), self.tensor.flatten(0, 1), strict=True):
            copied.copy_(old[:held, :, :kept])  # the two layouts overlap; one layer's keys or values at a time
            new[:held, :, :kept] = copied
            new[:held, :, kept:] = 0

    def _lay_out(self, span: int) -> None:
        shape = self._shape
        slots = min(shape.slots, shape.area // span)
        used = self._buffer[:, :, : slots * shape.kv_heads * span * shape.head_dim]
        self.span = span
        self.spans.fill_(span)
        self.tensor = used.unflatten(-1, (slots, shape.kv_heads, span, shape.head_dim))
        self.layers = [(layer[0], layer[1]) for layer in self.tensor]

    def copy_out(self, slot: int, length: int) -> torch.Tensor:
        """The first `length` positions of a slot, [layers, 2, kv_heads, length, head_dim]."""
        held: torch.Tensor = self.tensor[:, :, slot, :, :length]
        return held.clone()

    def copy_in(self, slot: int, prefix: torch.Tensor, length: int) -> None:
        """The first `length` positions of `prefix` become the slot's."""
        self.tensor[:, :, slot, :, :length] = prefix[:, :, :, :length]

    def copy_across(self, source: int, target: int, length: int) -> None:
        """The first `length` positions of slot `source` become `target`'s too."""
        self.tensor[:, :, target, :, :length] = self.tensor[:, :, source, :, :length]

    def move(self, move: Move) -> None:
        moved = self.tensor[:, :, move.source, :, : move.length]
        self.tensor[:, :, move.target, :, : move.length] = moved
        self.tensor[:, :, move.target, :, move.length :] = 0

    def clear(self, slot: int) -> None:
        """Zero a slot for its next holder: a NaN left behind by another would reach it as 0 x NaN."""
        self.tensor[:, :, slot] = 0


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros of `like`'s dtype and device. On a CPU by numpy: `torch.zeros` would write, and so back, every page."""
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    raw = np.zeros(torch.Size(shape).numel() * like.dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(like.dtype).view(shape)
