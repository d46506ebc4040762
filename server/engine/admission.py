"""Who may wait: budgets in requests and in tokens, shared so that nobody who floods the queue shuts others out of it.

The dynamic threshold of Choudhury and Hahne (IEEE/ACM Transactions on Networking 6(2), 1998), one level inside the
other: an owner may wait with as much as there is room left, and a group with as much as its owner's part has left. One
owner with one group comes to a third of the room, two owners to a quarter each; there is always some for a newcomer.
Knows requests and counts; no order, no slots. Any thread may ask.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from server.engine.request import OwnerFull, QueueFull, Request

STARTS = 64
"""The last starts, whose pace says how long a queue will take."""
MAX_RETRY_SECONDS = 60
NEWEST_SECONDS = 1.0
"""A pace is not told from less."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Load:
    """So many requests, and the tokens that they may come to cost."""

    requests: int = 0
    tokens: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.requests + other.requests, self.tokens + other.tokens)

    def __sub__(self, other: "Load") -> "Load":
        return Load(self.requests - other.requests, self.tokens - other.tokens)


class Admission:
    """Counts who waits. `most`: of all together."""

    def __init__(self, most: Load) -> None:
        self.most = most
        self._all = Load()
        self._owners: dict[Hashable, Load] = {}
        self._groups: dict[tuple[Hashable, Hashable], Load] = {}
        self._inside: set[Request] = set()
        self._starts: deque[float] = deque(maxlen=STARTS)
        self._lock = threading.Lock()

    @property
    def waiting(self) -> Load:
        return self._all

    def check(self, owner: Hashable, group: Hashable = None) -> None:
        """Raises as `enter` would for whatever `owner` brings, of this group or of any, as far as that is known."""
        with self._lock:
            self._check_owner(owner, Load(1))
            if group is not None:
                self._check_group(owner, group)

    def enter(self, requests: Sequence[Request]) -> None:
        """All of one owner and group wait from here on, or none. Raises QueueFull or OwnerFull.

        What is larger than all the room is let in alone: nothing else would ever be.
        """
        first = requests[0]
        size = _size(requests)
        with self._lock:
            self._check_owner(first.owner, size)
            self._check_group(first.owner, first.group)
            self._inside.update(requests)
            self._change(first, size)

    def leave(self, request: Request, *, started: bool) -> None:
        """It no longer waits: it has `started`, or ended before."""
        with self._lock:
            if request not in self._inside:
                return
            self._inside.remove(request)
            self._change(request, Load() - _size([request]))
            if started:
                self._starts.append(time.monotonic())

    def _check_owner(self, owner: Hashable, size: Load) -> None:
        whole, most = self._all + size, self.most
        full = whole.requests > most.requests or whole.tokens > most.tokens
        if full and self._all.requests:
            raise QueueFull(self._patience())
        if not _below(self._owners.get(owner, Load()), most - self._all):
            raise OwnerFull(self._patience())

    def _check_group(self, owner: Hashable, group: Hashable) -> None:
        room = self.most - self._all - self._owners.get(owner, Load())
        if not _below(self._groups.get((owner, group), Load()), room):
            raise OwnerFull(self._patience())

    def _change(self, request: Request, by: Load) -> None:
        self._all += by
        key = (request.owner, request.group)
        _kept(self._owners, request.owner, by)
        _kept(self._groups, key, by)

    def _patience(self) -> int:
        """Seconds until who waits now will have started, at the pace of late."""
        if len(self._starts) < 2:
            return 1
        took = max(NEWEST_SECONDS, time.monotonic() - self._starts[0])
        return max(1, min(MAX_RETRY_SECONDS, math.ceil(self._all.requests * took / len(self._starts))))


def _size(requests: Sequence[Request]) -> Load:
    return Load(len(requests), sum(request.tokens for request in requests))


def _below(load: Load, room: Load) -> bool:
    """Whether somebody who waits with `load` may bring more: who waits with nothing may, as long as not all is full."""
    return load.requests < room.requests and load.tokens < room.tokens


def _kept(loads: dict[Key, Load], key: Key, by: Load) -> None:
    """Only of those who wait: owners and groups come and go without number."""
    loads[key] = loads.get(key, Load()) + by
    if not loads[key].requests:
        del loads[key]
