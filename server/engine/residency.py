"""Which soft prompts are in the engine's memory: least recently used leave first, by bytes, never one in use.

Knows digests, sizes and opaque values; not what a value is made of.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from server.engine.request import Prompt


@dataclass(slots=True, eq=False)
class Resident:
    """One soft prompt in memory. `rows`, `kv` and `adapter` are the model's; `users` counts sequences that hold it.

    `kv` holds the first `covered` positions of the head: a deep prefix from the start, all of it once the rest has been
    prefilled. `shared` False means that it never will be (it would not fit the budget), so its requests feed the rest
    themselves.
    """

    prompt: Prompt
    bytes: int
    rows: Any = None
    kv: Any = None
    adapter: Any = None
    covered: int = 0
    shared: bool = True
    users: int = 0

    @property
    def ready(self) -> bool:
        return self.covered == len(self.prompt.head) or not self.shared

    @property
    def cached(self) -> tuple[int, ...]:
        """The ids whose keys and values are there."""
        return self.prompt.head[: self.covered]

    def cover(self, kv: Any) -> None:
        """The whole head's keys and values, [L, 2, H_kv, positions, D]."""
        self.kv, self.covered = kv, len(self.prompt.head)


class Residency:
    """Residents by digest within `budget` bytes. Any thread may look; only the engine's thread adds and evicts."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._by_digest: OrderedDict[str, Resident] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_digest)

    def peek(self, digest: str) -> Prompt | None:
        """The resident soft prompt, without marking it as used."""
        with self._lock:
            found = self._by_digest.get(digest)
            return found.prompt if found else None

    def take(self, digest: str) -> Resident | None:
        """The resident, now the most recently used."""
        with self._lock:
            found = self._by_digest.get(digest)
            if found is not None:
                self._by_digest.move_to_end(digest)
            return found

    def add(self, resident: Resident) -> bool:
        """Makes room and keeps `resident`. False, with nothing evicted, when the budget cannot hold it now."""
        with self._lock:
            free = self.budget - self.bytes
            idle = (r for r in self._by_digest.values() if r.users == 0)
            leaving: list[Resident] = []
            while free < resident.bytes:
                oldest = next(idle, None)
                if oldest is None:
                    return False
                leaving.append(oldest)
                free += oldest.bytes
            for old in leaving:
                self._remove(old.prompt.digest)
            self._by_digest[resident.prompt.digest] = resident
            self.bytes += resident.bytes
            return True

    def drop(self, digest: str) -> None:
        """Forgets a soft prompt; sequences that hold it finish with it."""
        with self._lock:
            if digest in self._by_digest:
                self._remove(digest)

    def _remove(self, digest: str) -> None:
        self.bytes -= self._by_digest.pop(digest).bytes
