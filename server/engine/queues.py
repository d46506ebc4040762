"""Who waits for a slot: first come first served inside a group; an owner's groups share its part, owners the engine.

The virtual token counter of Sheng et al. (arXiv 2401.00588), one level inside the other: the owner that has used least
goes next, with the one of its groups that has used least. Knows sequences and counts; no slots, no tensors.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterator

from server.engine.admission import Admission, Load
from server.engine.sequence import Sequence

FED, GENERATED = 1, 2
"""What an id fed and an id generated count, as in the paper: a generated one costs a whole step."""
MAX_COUNTERS = 65_536
BOUNDLESS = 2**62

Entry = tuple[int, int, int, Sequence]
"""Of a group's first: what its owner has used, and the group; when it came (no two came at once), itself."""


class Used:
    """What each of several has used so far.

    One that comes back starts level with the least of those who wait; where nobody waits, level with whoever has used
    most: nobody went without for what was used then, so it is held against nobody.
    """

    def __init__(self) -> None:
        self._used: OrderedDict[Hashable, int] = OrderedDict()
        self._most = 0

    def of(self, key: Hashable) -> int:
        return self._used.get(key, 0)

    def come(self, key: Hashable, waiting: Collection[Hashable]) -> None:
        """`key`, which is none of `waiting`, begins to wait beside them."""
        floor = min(map(self.of, waiting)) if waiting else self._most
        self._used[key] = max(self.of(key), floor)
        self._used.move_to_end(key)
        self._forget(waiting)

    def charge(self, key: Hashable, tokens: int) -> None:
        self._used[key] = self.of(key) + tokens
        self._most = max(self._most, self._used[key])

    def _forget(self, waiting: Collection[Hashable]) -> None:
        """Those long gone, oldest first, so that any number may come and go."""
        while len(self._used) > MAX_COUNTERS:
            key, used = self._used.popitem(last=False)
            if key in waiting:
                self._used[key] = used
                break


class Queues:
    """Waiting sequences by owner and group. Any thread may ask how many wait: `admission` counts them."""

    def __init__(self, admission: Admission | None = None) -> None:
        self._admission = Admission(Load(BOUNDLESS, BOUNDLESS)) if admission is None else admission
        self._waiting: dict[Hashable, dict[Hashable, deque[Sequence]]] = {}
        self._owners = Used()
        self._groups: OrderedDict[Hashable, Used] = OrderedDict()
        self._arrived = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        return (one for groups in self._waiting.values() for queue in groups.values() for one in queue)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._waiting.get(sequence.owner, {}).get(sequence.group, ())

    def add(self, sequence: Sequence) -> None:
        owner, group = sequence.owner, sequence.group
        if owner not in self._waiting:
            self._owners.come(owner, self._waiting)
            self._waiting[owner] = {}
        groups = self._waiting[owner]
        if group not in groups:
            self._used_by(owner).come(group, groups)
            groups[group] = deque()
        sequence.arrived, self._arrived = self._arrived, self._arrived + 1
        groups[group].append(sequence)

    def remove(self, sequence: Sequence, *, started: bool = False) -> None:
        """Takes it out of its group's queue, wherever it stands."""
        groups = self._waiting[sequence.owner]
        queue = groups[sequence.group]
        queue.remove(sequence)
        if not queue:
            del groups[sequence.group]
        if not groups:
            del self._waiting[sequence.owner]
        self._admission.leave(sequence.request, started=started)

    def charge(self, sequence: Sequence, tokens: int) -> None:
        """Its owner and its group have used so much; whoever has used least is served next."""
        self._owners.charge(sequence.owner, tokens)
        self._used_by(sequence.owner).charge(sequence.group, tokens)

    def turns(self) -> "Turns":
        return Turns(self)

    def entry(self, owner: Hashable, group: Hashable) -> Entry | None:
        queue = self._waiting.get(owner, {}).get(group)
        if not queue:
            return None
        return self._owners.of(owner), self._used_by(owner).of(group), queue[0].arrived, queue[0]

    def entries(self) -> list[Entry]:
        pairs = [(owner, group) for owner, groups in self._waiting.items() for group in groups]
        return [entry for owner, group in pairs if (entry := self.entry(owner, group)) is not None]

    def _used_by(self, owner: Hashable) -> Used:
        if owner not in self._groups:
            self._groups[owner] = Used()
            if len(self._groups) > MAX_COUNTERS:
                self._groups.popitem(last=False)
        return self._groups[owner]


class Turns:
    """One round of admissions: `first` names the next in line, then it is either taken or its group passed over."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._heap = queues.entries()
        heapq.heapify(self._heap)

    def first(self) -> Sequence | None:
        """An owner's other groups stand where they stood before it was charged: each is put in its place when it comes
        to the front, which it can only come to too early."""
        while self._heap:
            seen = self._heap[0]
            now = self._queues.entry(seen[3].owner, seen[3].group)
            if now == seen:
                return seen[3]
            heapq.heappop(self._heap)
            if now is not None:
                heapq.heappush(self._heap, now)
        return None

    def pass_over(self) -> None:
        """Nothing more of this group in this round."""
        heapq.heappop(self._heap)

    def take(self, tokens: int) -> None:
        """The first leaves its queue, and is charged `tokens`."""
        sequence = heapq.heappop(self._heap)[3]
        self._queues.remove(sequence, started=True)
        self._queues.charge(sequence, tokens)
        entry = self._queues.entry(sequence.owner, sequence.group)
        if entry is not None:
            heapq.heappush(self._heap, entry)
