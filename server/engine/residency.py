# ruff: noqa: N818 - what happened reads better than SomethingError
"""Which soft prompts are in the engine's memory: least recently used leave first, by bytes; pinned ones last.

Knows digests, sizes and opaque values; how a value is made is the maker's.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakSet

from server.engine.request import Prompt


class Unloadable(Exception):
    """The soft prompt can never be brought into memory: too large for the budget, or nothing that the base takes."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Resident:
    """One soft prompt in memory. `rows`, `kv` and `adapter` are the model's; `users` counts sequences that hold it.

    `kv` holds the first `covered` positions of the head: a deep prefix from the start, all of it once the rest has been
    read. `shared` False means that it never will be (a head that fills a whole slot), so its requests feed the rest
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


class Maker(Protocol):
    """Turns a soft prompt into a resident; `size` says beforehand how many bytes it will take."""

    def size(self, prompt: Prompt) -> int: ...

    def make(self, prompt: Prompt) -> Resident: ...


class Residency:
    """Residents by digest within `budget` bytes. Any thread may look and pin; only the engine's holds and evicts."""

    def __init__(self, budget: int, maker: Maker) -> None:
        self.budget = budget
        self._maker = maker
        self._dropped: WeakSet[Resident] = WeakSet()
        self._by_digest: OrderedDict[str, Resident] = OrderedDict()
        self._pinned: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_digest)

    @property
    def bytes(self) -> int:
        """Of all that are in memory: one that was dropped is until its last user has ended."""
        with self._lock:
            return self._bytes()

    def peek(self, digest: str) -> Prompt | None:
        """The resident soft prompt, without marking it as used."""
        with self._lock:
            found = self._by_digest.get(digest)
            return found.prompt if found else None

    def hold(self, prompt: Prompt) -> Resident | None:
        """The soft prompt in memory, now the most recently used and with one user more.

        None while those in use leave no room for it. Raises Unloadable.
        """
        with self._lock:
            found = self._by_digest.get(prompt.digest)
            if found is not None:
                self._by_digest.move_to_end(prompt.digest)
        if found is None:
            found = self._bring(prompt)
        if found is not None:
            found.users += 1
        return found

    def pin(self, digest: str) -> None:
        """Once in memory it stays, used or not, as long as what is in use leaves room for it."""
        with self._lock:
            self._pinned.add(digest)

    def unpin(self, digest: str) -> None:
        with self._lock:
            self._pinned.discard(digest)

    def check(self, prompt: Prompt) -> None:
        """Raises Unloadable for a soft prompt that is too large even for an empty memory."""
        size = self._maker.size(prompt)
        if size > self.budget:
            raise Unloadable(f"it takes {size} bytes of memory, and all soft prompts together may take {self.budget}")

    def drop(self, digest: str) -> None:
        """Forgets a soft prompt; sequences that hold it finish with it. A pinned one is pinned when it comes again."""
        with self._lock:
            found = self._by_digest.pop(digest, None)
            if found is not None:
                self._dropped.add(found)

    def _bring(self, prompt: Prompt) -> Resident | None:
        try:
            self.check(prompt)
            if not self._make_room(self._maker.size(prompt)):
                return None
            found = self._maker.make(prompt)  # without the lock: others look meanwhile
        except Unloadable:
            raise
        except Exception as error:  # whatever stands in a file
            raise Unloadable("the base cannot take it") from error
        with self._lock:
            self._by_digest[prompt.digest] = found
        return found

    def _make_room(self, size: int) -> bool:
        """False, with nothing evicted, while too many are in use."""
        with self._lock:
            idle = [digest for digest, resident in self._by_digest.items() if resident.users == 0]
            free, leaving = self.budget - self._bytes(), []
            for digest in sorted(idle, key=self._pinned.__contains__):  # stable: least recently used first
                if free >= size:
                    break
                leaving.append(digest)
                free += self._by_digest[digest].bytes
            if free < size:
                return False
            for digest in leaving:
                del self._by_digest[digest]
            return True

    def _bytes(self) -> int:
        in_use = [one for one in self._dropped if one.users]
        return sum(one.bytes for one in (*self._by_digest.values(), *in_use))
