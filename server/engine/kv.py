"""The keys and values of everything that runs: one tensor [layers, 2, slots, kv_heads, positions, head_dim].

Knows slots and positions; not whose they are.
"""

import numpy as np
import torch

from server.engine.slots import Move


class KVCache:
    """Slot s holds one sequence's keys ([:, 0, s]) and values ([:, 1, s]) as cached, after the rotary step.

    On a CPU the pages of positions that no sequence has reached yet are not backed by memory.
    """

    def __init__(self, shape: tuple[int, int, int, int, int, int], like: torch.Tensor) -> None:
        self.tensor = _zeros(shape, like)
        self.layers = [(layer[0], layer[1]) for layer in self.tensor]

    @staticmethod
    def bytes_per_position(layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        return layers * 2 * kv_heads * head_dim * dtype.itemsize

    @property
    def positions(self) -> int:
        return int(self.tensor.shape[4])

    def copy_out(self, slot: int, length: int) -> torch.Tensor:
        """The first `length` positions of a slot, [layers, 2, kv_heads, length, head_dim]."""
        return self.tensor[:, :, slot, :, :length].clone()

    def copy_in(self, slot: int, prefix: torch.Tensor, length: int) -> None:
        """The first `length` positions of `prefix` become the slot's."""
        self.tensor[:, :, slot, :, :length] = prefix[:, :, :, :length]

    def move(self, move: Move) -> None:
        moved = self.tensor[:, :, move.source, :, : move.length]
        self.tensor[:, :, move.target, :, : move.length] = moved

    def clear(self, slot: int) -> None:
        """Zero a slot whose sequence failed: a NaN left behind would reach its next holder as 0 x NaN."""
        self.tensor[:, :, slot] = 0


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros of `like`'s dtype and device. On a CPU by numpy: `torch.zeros` would write, and so back, every page."""
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    raw = np.zeros(torch.Size(shape).numel() * like.dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(like.dtype).view(shape)
