"""How many bytes of answers wait for clients that do not take them, so that many of them do not fill the memory.

Knows sizes and times alone, and whom to cut off.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

FREE_BYTES = 256 * 2**10
"""Of each, half of it the kernel's: a stream and a file wait with no more, and are made as they are taken."""
ROOM = 1 / 8
"""Of the budget, that is made at once: to look at everybody for each that comes would be a flood's best friend."""
LEAST_SECONDS = 1.0
"""Over which a pace is a pace."""


class Reader(Protocol):
    """Of an answer that waits for it."""

    def waiting(self) -> int:
        """Bytes it has not taken."""
        ...

    def taken(self) -> int:
        """Bytes it ever took."""
        ...

    def cut(self) -> None: ...


class _Held(NamedTuple):
    bytes: int
    since: float
    taken: int


class Unsent:
    """Of one server; an answer that is larger than `budget` waits while there is no other."""

    def __init__(self, budget: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._held = 0
        self._by: dict[Reader, _Held] = {}

    def hold(self, reader: Reader) -> None:
        """Something waits for it from now on. Where all together are too much, who takes least is cut off."""
        self.release(reader)
        held = _Held(_counted(reader), self._clock(), reader.taken())
        if held.bytes:
            self._by[reader] = held
            self._held += held.bytes
        if self._held > self._budget:
            self._make_room()

    def release(self, reader: Reader) -> None:
        """It has what it was sent, or is gone."""
        held = self._by.pop(reader, None)
        if held is not None:
            self._held -= held.bytes

    def _make_room(self) -> None:
        """What was taken meanwhile is no longer counted; then the slowest go, of equals who has waited longest."""
        self._by = {reader: held._replace(bytes=_counted(reader)) for reader, held in self._by.items()}
        self._held = sum(held.bytes for held in self._by.values())
        wanted = self._budget - self._budget * ROOM if self._held > self._budget else self._held
        for reader in sorted(self._by, key=self._pace):
            if self._held <= wanted or len(self._by) == 1:
                return
            self.release(reader)
            reader.cut()

    def _pace(self, reader: Reader) -> float:
        """Bytes a second."""
        _, since, before = self._by[reader]
        return (reader.taken() - before) / max(self._clock() - since, LEAST_SECONDS)


def _counted(reader: Reader) -> int:
    return max(0, reader.waiting() - FREE_BYTES)
