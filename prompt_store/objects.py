"""Bytes by key, create-only. What the store needs of a place, and a place in memory.

Knows no tasks: a key is a path of plain names. The place on disk is in prompt_store/local.py.
"""

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol


class Missing(Exception):  # noqa: N818 - an answer, not an accident
    """The place positively has nothing under this key."""


class Exists(Exception):  # noqa: N818 - likewise
    """Something stands under this key already, and is kept as safely as what `create` acknowledges."""


class Unconfirmed(Exception):  # noqa: N818 - likewise
    """The object may or may not have been kept."""


class Objects(Protocol):
    """A place. Everything may also raise StoreUnavailable, and `create` StoreFull; then nothing was kept."""

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

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders directly in the folder `prefix`, in ASCII order."""


class MemoryObjects:
    """For tests and trials: kept for as long as the process lives."""

    def __init__(self) -> None:
        """An empty place."""
        self._lock = threading.Lock()
        self._objects: dict[str, bytes] = {}

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
            self._objects[key] = bytes(data)

    def replace(self, key: str, data: bytes) -> None:
        """See Objects."""
        with self._lock:
            self._objects[key] = bytes(data)

    def confirm(self, key: str) -> None:
        """Nothing to do: memory is as safe as it gets."""

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """See Objects."""
        with self._lock:
            names = sorted(key for key in self._objects if key.startswith(prefix))
        return iter(names[bisect_right(names, after) :])

    def folders(self, prefix: str) -> Sequence[str]:
        """See Objects."""
        with self._lock:
            below = {key[len(prefix) :] for key in self._objects if key.startswith(prefix)}
        return sorted({key.split("/", 1)[0] for key in below if "/" in key})
