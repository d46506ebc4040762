"""Which examples a training step sees: a pure function of seed and step, so a resumed run reads on exactly.

Every epoch shuffles anew; neighbours of similar width share a batch, so little of it is padding. Knows only widths.
"""

import random
from collections.abc import Sequence

POOL_BATCHES = 16
"""Widths are sorted within pools of this many batches: little padding, and still a random mixture."""


class Batches:
    """`batches[step]` is the list of row numbers of that step, for ever; the last batch of an epoch may be smaller."""

    def __init__(self, widths: Sequence[int], size: int, seed: int) -> None:
        self._widths = widths
        self._size = min(size, len(widths))
        self._seed = seed
        self._epoch = -1
        self._batches: list[list[int]] = []

    @property
    def per_epoch(self) -> int:
        return -(-len(self._widths) // self._size)

    def __getitem__(self, step: int) -> list[int]:
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[number]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng = random.Random(f"{self._seed}/{epoch}")
        order = list(range(len(self._widths)))
        rng.shuffle(order)
        pool = POOL_BATCHES * self._size
        batches = []
        for start in range(0, len(order), pool):
            near = sorted(order[start : start + pool], key=self._widths.__getitem__)
            batches += [near[first : first + self._size] for first in range(0, len(near), self._size)]
        rng.shuffle(batches)
        return batches
