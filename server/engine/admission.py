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
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from server.engine.request import OwnerFull, QueueFull, Request

STARTS = 64
"""The last starts, whose pace says how long a queue will take."""
MAX_RETRY_SECONDS = 60
NEWEST_SECONDS = 1.0
"""A pace is not told from less."""

PLACES = 16
"""A place stands for no more than one of so many parts of the tokens: who waits with most of them is no measure."""

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


class _Loads:
    """Of all, of each owner and of each of its groups; of those who come and go nothing is kept."""

    def __init__(self) -> None:
        self.all = Load()
        self._owners: dict[Hashable, Load] = {}
        self._groups: dict[tuple[Hashable, Hashable], Load] = {}

    def change(self, owner: Hashable, group: Hashable, by: Load) -> None:
        self.all += by
        _kept(self._owners, owner, by)
        _kept(self._groups, (owner, group), by)

    def owner(self, owner: Hashable) -> Load:
        return self._owners.get(owner, _NOTHING)

    def group(self, owner: Hashable, group: Hashable) -> Load:
        return self._groups.get((owner, group), _NOTHING)


_NOTHING, _NOBODY = Load(), _Loads()


class Place:
    """Of one that was let through and has not come yet: until it `leave`s, which it may more than once, nobody else
    finds it."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """The request enters the queue now, or never will."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Admission:
    """Counts who waits. `most`: of all together. `longest`: seconds that anybody waits."""

    def __init__(self, most: Load, longest: float = math.inf) -> None:
        self.most = most
        self._longest = max(1, math.ceil(min(MAX_RETRY_SECONDS, longest)))
        self._waiting = _Loads()
        self._coming = _Loads()
        self._starting = 0
        self._inside: set[Request] = set()
        self._starts: deque[float] = deque(maxlen=STARTS)
        self._lock = threading.Lock()

    @property
    def waiting(self) -> Load:
        return self._waiting.all

    def check(self, owner: Hashable, group: Hashable = None) -> None:
        """Raises as `enter` would for whatever `owner` brings, of this group or of any, as far as that is known."""
        with self._lock:
            self._check_owner(owner, Load(1))
            if group is not None:
                self._check_group(owner, group)

    def at_once(self, free: int) -> Place | None:
        """Of one who will not have to wait, whoever it is: nobody does, and of the `free` slots fewer have been given
        to others who have not come yet. None where that is not so."""
        with self._lock:
            if self._waiting.all.requests or self._starting >= free:
                return None
            self._starting += 1
        return Place(self._start)

    def _start(self) -> None:
        with self._lock:
            self._starting -= 1

    def expect(self, owner: Hashable, group: Hashable) -> Place:
        """As `check`, with all others that were let through and have not come yet: those who come between an end and
        the next entry would all find the same place, and be refused when much has been done for them.

        What it will bring nobody knows yet: while it is on its way it counts as the mean of those who wait, and as one
        of `PLACES` parts of the tokens at most. `enter` looks at no places.
        """
        with self._lock:
            waiting = self._waiting.all
            usual = Load(1, min(waiting.tokens // max(1, waiting.requests), self.most.tokens // PLACES))
            self._check_owner(owner, Load(1), self._coming)
            self._check_group(owner, group, self._coming)
            self._coming.change(owner, group, usual)
        return Place(partial(self._come, owner, group, _NOTHING - usual))

    def _come(self, owner: Hashable, group: Hashable, by: Load) -> None:
        with self._lock:
            self._coming.change(owner, group, by)

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
            self._waiting.change(first.owner, first.group, size)

    def leave(self, request: Request, *, started: bool) -> None:
        """It no longer waits: it has `started`, or ended before."""
        with self._lock:
            if request not in self._inside:
                return
            self._inside.remove(request)
            self._waiting.change(request.owner, request.group, _NOTHING - _size([request]))
            if not self._waiting.all.requests:
                self._starts.clear()  # of a server that nobody waits for the pace says nothing
            elif started:
                self._starts.append(time.monotonic())

    def _check_owner(self, owner: Hashable, size: Load, beside: _Loads = _NOBODY) -> None:
        inside, most = self._waiting.all + beside.all, self.most
        whole = inside + size
        full = whole.requests > most.requests or whole.tokens > most.tokens
        if full and inside.requests:
            raise QueueFull(self._patience())
        if not _below(self._waiting.owner(owner) + beside.owner(owner), most - inside):
            raise OwnerFull(self._patience())

    def _check_group(self, owner: Hashable, group: Hashable, beside: _Loads = _NOBODY) -> None:
        inside = self._waiting.all + beside.all
        room = self.most - inside - self._waiting.owner(owner) - beside.owner(owner)
        if not _below(self._waiting.group(owner, group) + beside.group(owner, group), room):
            raise OwnerFull(self._patience())

    def _patience(self) -> int:
        """Seconds until who waits now will have started, at the pace of late."""
        if len(self._starts) < 2:
            return 1
        took = max(NEWEST_SECONDS, time.monotonic() - self._starts[0])
        return max(1, min(self._longest, math.ceil(self._waiting.all.requests * took / len(self._starts))))


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
