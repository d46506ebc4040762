"""What clients of one server were told, and when: which answers of a task were possible at all.

Every moment is the client's: a change took place somewhere between `began` and `ended`. Knows no HTTP.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """A version made, or (`version` None) the task deleted."""

    began: float
    ended: float
    version: int | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: from this version, or (`version` None) that there is no such task. `pinned`: it was asked for."""

    began: float
    ended: float
    version: int | None
    digest: str | None
    pinned: int | None = None


@dataclass(slots=True)
class Ledger:
    """Of every task."""

    _changes: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def changed(self, task: str, change: Change) -> None:
        with self._lock:
            self._changes[task].append(change)

    def versions(self, task: str) -> list[int]:
        """Those that are known of so far."""
        with self._lock:
            return [change.version for change in self._changes[task] if change.version is not None]

    def faults(self, task: str, told: Told) -> Iterator[str]:
        """Why an answer could not be. To be asked once everybody has told what they did."""
        changes = self._changes[task]
        if told.version is None:
            if not any(self._absent(changes, told)):
                yield "the task was there, and was not found"
            return
        yield from self._unmade(changes, told, told.version)
        if told.pinned is not None:
            if told.pinned != told.version:
                yield f"version {told.version} answered for {told.pinned}"
            return
        yield from self._outdated(changes, told, told.version)

    @staticmethod
    def _unmade(changes: list[Change], told: Told, version: int) -> Iterator[str]:
        made = [change for change in changes if change.version == version]
        if not made:
            yield f"nobody made version {version}"
        elif all(change.digest != told.digest for change in made):
            yield f"version {version} has another digest"
        elif min(change.began for change in made) > told.ended:
            yield f"version {version} was made after the answer"

    def _outdated(self, changes: list[Change], told: Told, version: int) -> Iterator[str]:
        newest = max(self._newest_before(changes, told.began), default=0)
        if version < newest:
            yield f"version {version} answered after {newest} was acknowledged"
        for gone in changes:
            if gone.version is None and gone.ended < told.began:
                last = max(self._newest_before(changes, gone.began), default=0)
                if version <= last:
                    yield f"version {version} answered after it was deleted"

    @staticmethod
    def _newest_before(changes: list[Change], moment: float) -> Iterator[int]:
        yield from (one.version for one in changes if one.version is not None and one.ended < moment)

    @staticmethod
    def _absent(changes: list[Change], told: Told) -> Iterator[bool]:
        """For each deletion that may have come before the answer, whether nothing surely came in between."""
        for gone in changes:
            if gone.version is None and gone.began < told.ended:
                yield not any(
                    one.version is not None and one.began > gone.ended and one.ended < told.began for one in changes
                )
