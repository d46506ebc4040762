"""Which sequence holds which slot of the K/V cache: lowest first, holes closed by moving the highest down.

Knows no tensors: it says which slot to copy where, the K/V cache does it. All slots are as long as the longest has to
be, and together never longer than the area that the cache has.
"""

import heapq
from dataclasses import dataclass

from server.engine.sequence import Sequence

GRAIN = 32
"""The length of a slot is a multiple of this, so that shapes repeat from step to step."""


def rounded(positions: int) -> int:
    """Up to whole grains."""
    return -(-positions // GRAIN) * GRAIN


@dataclass(frozen=True, slots=True)
class Move:
    """Copy the first `length` positions of slot `source` to slot `target`."""

    source: int
    target: int
    length: int


class Slots:
    """At most `count` sequences at a time, on `area` positions in all.

    The decode attention spans slots 0 to `high` - 1, so holes cost time.
    """

    def __init__(self, count: int, area: int) -> None:
        self.count = count
        self._area = area
        self._held: dict[int, Sequence] = {}
        self._free = list(range(count))

    def __len__(self) -> int:
        return len(self._held)

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def high(self) -> int:
        return max(self._held, default=-1) + 1

    def sequences(self) -> list[Sequence]:
        """In slot order."""
        return [self._held[slot] for slot in sorted(self._held)]

    def fits(self, sequence: Sequence) -> bool:
        """Whether it may start: there is a slot, and even when all grow as long as they may, the area holds them."""
        if not self._free:
            return False
        longest = max(sequence.most, *(held.most for held in self._held.values()), 0)
        return max(self.high, self._free[0] + 1) * rounded(longest) <= self._area

    def take(self, sequence: Sequence) -> int:
        slot = heapq.heappop(self._free)
        self._held[slot] = sequence
        return slot

    def release(self, slot: int) -> None:
        del self._held[slot]
        heapq.heappush(self._free, slot)

    def close_holes(self) -> list[Move]:
        """Moves until the held slots are 0 .. len - 1."""
        moves = []
        while self.high > len(self._held):
            source, target = self.high - 1, heapq.heappop(self._free)
            sequence = self._held.pop(source)
            self._held[target] = sequence
            sequence.slot = target
            heapq.heappush(self._free, source)
            moves.append(Move(source, target, sequence.fed))
        return moves
