"""Bytes by key, create-only. What the store needs of a place, and a place in memory.

Knows no tasks: a key is a path of plain names. The place on disk is in prompt_store/local.py.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class Missing(Exception):  # noqa: N818 - an answer, not an accident
    """The place positively has nothing under this key."""


class Exists(Exception):  # noqa: N818 - likewise
    """Something stands under this key already, and is kept as safely as what `create` acknowledges."""


class Unconfirmed(Exception):  # noqa: N818 - likewise
    """The object may or may not have been kept."""


class Entry(NamedTuple):
    """An object as a listing shows it, unread. `modified`: unix seconds by the place's own clock, see `Objects.now`."""

    key: str
    bytes: int
    modified: float


class Objects(Protocol):
    """A place. Everything may also raise StoreUnavailable, and `create` StoreFull; then nothing was kept."""

    @property
    def parallel(self) -> int:
        """How many reads at once are faster than one after the other: 1 where each takes microseconds."""

    @property
    def lateness(self) -> float:
        """Seconds for which a removal that was asked for, and given up, may still happen; 0 where none can."""

    def check(self) -> None:
        """Ask whether the place is there and is a store. Raises StoreUnavailable, StoreUnsuitable."""

    def get(self, key: str) -> bytes:
        """The whole object. Raises Missing only if the place is there and the object is not."""

    def create(self, key: str, data: bytes) -> None:
        """Keep `data` under `key` for good, or raise Exists or Unconfirmed. Whole or not at all."""

    def replace(self, key: str, data: bytes) -> None:
        """Mend a damaged object: the only write that may change one, and only to what its name promises."""

    def confirm(self, key: str) -> None:
        """Make sure that an object which can be seen is kept for good: another writer may still be about to."""

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys that begin with the folder `prefix` and are greater than `after`, in ASCII order."""

    def folders(self, prefix: str, above: str = "", below: str = "", *, descending: bool = False) -> Iterator[str]:
        """Names of the folders directly in `prefix` that are greater than `above` and, if given, less than `below`.

        In ASCII order or the reverse of it. No more is read than the caller takes, where the place can do that.
        """

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below the folder `prefix` in ASCII order of keys; none of them is read."""

    def has(self, key: str) -> bool:
        """Whether the object positively stands there: False only if the place is there and the object is not."""

    def move(self, key: str, to: str) -> None:
        """Put an object under another key, then take it away here: at every moment it stands under one of them.

        Both steps are kept for good on return, and `to` counts as modified now. Where `to` holds the same bytes already
        only the second is left to do; where it holds others, Exists, and nothing is changed. Raises Missing.
        """

    def remove(self, key: str) -> None:
        """Take an object away for good, if it is there. Nothing that answers a request calls this."""

    def now(self) -> float:
        """Unix seconds by the clock that `Entry.modified` is read from: so an age is two readings of one clock."""


class MemoryObjects:
    """For tests and trials: kept for as long as the process lives."""

    parallel = 1
    lateness = 0.0

    def __init__(self) -> None:
        """An empty place."""
        self._lock = threading.Lock()
        self._objects: dict[str, bytes] = {}
        self._modified: dict[str, float] = {}

    def check(self) -> None:
        """Memory is there."""

    def get(self, key: str) -> bytes:
        """See Objects."""
        with self._lock:
            if key not in self._objects:
                raise Missing(key)
            return self._objects[key]

    def create(self, key: str, data: bytes) -> None:
        """See Objects."""
        with self._lock:
            if key in self._objects:
                raise Exists(key)
            self._put(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """See Objects."""
        with self._lock:
            self._put(key, data)

    def confirm(self, key: str) -> None:
        """Nothing to do: memory is as safe as it gets."""

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """See Objects."""
        with self._lock:
            names = sorted(key for key in self._objects if key.startswith(prefix))
        return iter(names[bisect_right(names, after) :])

    def folders(self, prefix: str, above: str = "", below: str = "", *, descending: bool = False) -> Iterator[str]:
        """See Objects."""
        with self._lock:
            keys = {key[len(prefix) :] for key in self._objects if key.startswith(prefix)}
        names = sorted({key.split("/", 1)[0] for key in keys if "/" in key})
        return between(names, above, below, descending=descending)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See Objects."""
        with self._lock:
            kept = sorted((key, data) for key, data in self._objects.items() if key.startswith(prefix))
            found = [Entry(key, len(data), self._modified[key]) for key, data in kept]
        return iter(found)

    def has(self, key: str) -> bool:
        """See Objects."""
        with self._lock:
            return key in self._objects

    def move(self, key: str, to: str) -> None:
        """See Objects."""
        with self._lock:
            if key not in self._objects:
                raise Missing(key)
            if self._objects.get(to, self._objects[key]) != self._objects[key]:
                raise Exists(to)
            self._put(to, self._objects.pop(key))

    def remove(self, key: str) -> None:
        """See Objects."""
        with self._lock:
            self._objects.pop(key, None)

    def now(self) -> float:
        """The clock of this machine."""
        return time.time()

    def _put(self, key: str, data: bytes) -> None:
        self._objects[key] = bytes(data)
        self._modified[key] = self.now()


def between(names: Sequence[str], above: str, below: str, *, descending: bool) -> Iterator[str]:
    """Of sorted names those greater than `above` and, if given, less than `below`."""
    low, high = bisect_right(names, above), bisect_left(names, below) if below else len(names)
    numbers = range(low, high) if not descending else range(high - 1, low - 1, -1)
    return (names[number] for number in numbers)
