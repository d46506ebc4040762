"""The keys and values of everything that runs, laid out for the longest sequence there is.

[layers, 2, slots, kv_heads, span, head_dim] over one buffer of a fixed size: `span` positions follow the longest live
sequence, so that what a decode step reads is contiguous (a CPU's batched matmul copies anything else first, a tenth of
a step). Knows slots and positions; not whose they are.
"""

from dataclasses import dataclass

import numpy as np
import torch

from server.engine.slots import Move

GRAIN = 32
"""The span is a multiple of this, so that shapes repeat from step to step."""


@dataclass(frozen=True, slots=True)
class KVShape:
    """Sizes of a cache; `positions` is the most that one slot can hold."""

    layers: int
    slots: int
    kv_heads: int
    positions: int
    head_dim: int


class KVCache:
    """Slot s holds one sequence's keys ([:, 0, s]) and values ([:, 1, s]) as cached, after the rotary step.

    On a CPU the pages that no layout has reached yet are not backed by memory.
    """

    def __init__(self, shape: KVShape, like: torch.Tensor) -> None:
        self.positions = _rounded(shape.positions)
        self._slot = (shape.slots, shape.kv_heads, shape.head_dim)
        whole = (shape.layers, 2, shape.slots * shape.kv_heads * self.positions * shape.head_dim)
        self._buffer = _zeros(whole, like)
        self._lay_out(GRAIN)

    @staticmethod
    def bytes_per_position(layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        return layers * 2 * kv_heads * head_dim * dtype.itemsize

    def fit(self, positions: int, high: int) -> None:
        """Room for `positions` in every slot; slots 0 .. `high` - 1 keep what they hold.

        Grows by an eighth more than asked, so that growing costs little over a sequence's life, and shrinks when half
        would do.
        """
        if self.span >= positions and self.span < 2 * _rounded(positions):
            return
        before = self.tensor
        span = min(_rounded(positions + positions // 8), self.positions)
        kept = min(self.span, span)
        self._lay_out(span)
        for old, new in zip(before.flatten(0, 1), self.tensor.flatten(0, 1), strict=True):
            held = old[:high, :, :kept].clone()  # the two layouts overlap; one layer's keys or values at a time
            new[:high, :, :kept] = held
            new[:high, :, kept:] = 0

    def _lay_out(self, span: int) -> None:
        slots, kv_heads, head_dim = self._slot
        used = self._buffer[:, :, : slots * kv_heads * span * head_dim]
        self.span = span
        self.tensor = used.unflatten(-1, (slots, kv_heads, span, head_dim))
        self.layers = [(layer[0], layer[1]) for layer in self.tensor]

    def copy_out(self, slot: int, length: int) -> torch.Tensor:
        """The first `length` positions of a slot, [layers, 2, kv_heads, length, head_dim]."""
        held: torch.Tensor = self.tensor[:, :, slot, :, :length]
        return held.clone()

    def copy_in(self, slot: int, prefix: torch.Tensor, length: int) -> None:
        """The first `length` positions of `prefix` become the slot's."""
        self.tensor[:, :, slot, :, :length] = prefix[:, :, :, :length]

    def move(self, move: Move) -> None:
        moved = self.tensor[:, :, move.source, :, : move.length]
        self.tensor[:, :, move.target, :, : move.length] = moved
        self.tensor[:, :, move.target, :, move.length :] = 0

    def clear(self, slot: int) -> None:
        """Zero a slot for its next holder: a NaN left behind by another would reach it as 0 x NaN."""
        self.tensor[:, :, slot] = 0


def _rounded(positions: int) -> int:
    return -(-positions // GRAIN) * GRAIN


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros of `like`'s dtype and device. On a CPU by numpy: `torch.zeros` would write, and so back, every page."""
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    raw = np.zeros(torch.Size(shape).numel() * like.dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(like.dtype).view(shape)
