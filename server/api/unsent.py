"""How many bytes of answers wait for clients that do not take them, so that many of them do not fill the memory.

Knows sizes alone, and whom to cut off.
"""

from typing import Protocol

FREE_BYTES = 64 * 2**10
"""Of each: a stream and a file wait with so many, and are made as they are taken."""


class Reader(Protocol):
    """Of an answer that waits for it."""

    def cut(self) -> None: ...


class Unsent:
    """Of one server; an answer that is larger than `budget` waits while there is no other."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held = 0
        self._by: dict[Reader, int] = {}

    def hold(self, reader: Reader, size: int) -> None:
        """So many bytes wait for it now. Where all together are too many, who waited longest is cut off."""
        self.release(reader)
        self._by[reader] = max(0, size - FREE_BYTES)
        self._held += self._by[reader]
        while self._held > self._budget and len(self._by) > 1:
            oldest = next(iter(self._by))
            self.release(oldest)
            oldest.cut()

    def release(self, reader: Reader) -> None:
        """It has them, or is gone."""
        self._held -= self._by.pop(reader, 0)
