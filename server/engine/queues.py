"""Who waits for a slot: first come first served inside a group, and groups share the engine fairly.

The virtual token counter of Sheng et al. (arXiv 2401.00588): the group that has used least goes next. One that comes
back starts level with the least of those who wait; where nobody waits, level with whoever has used most: nobody went
without for what was used then, so it is held against nobody. Knows sequences and counts; no slots, no tensors.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator

from server.engine.sequence import Sequence

FED, GENERATED = 1, 2
"""What an id fed and an id generated count, as in the paper: a generated one costs a whole step."""
MAX_COUNTERS = 65_536


class Queues:
    """Waiting sequences by group, and what every group has used so far. Any thread may ask how many wait."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Sequence]] = {}
        self._used: OrderedDict[Hashable, int] = OrderedDict()
        self._most = 0
        self._arrived = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sequence]:
        return (sequence for queue in self._waiting.values() for sequence in queue)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._waiting.get(sequence.group, ())

    def add(self, sequence: Sequence) -> None:
        group = sequence.group
        if group not in self._waiting:
            self._used[group] = max(self._used.get(group, 0), self._floor())
            self._used.move_to_end(group)
            self._forget()
            self._waiting[group] = deque()
        sequence.arrived, self._arrived = self._arrived, self._arrived + 1
        self._waiting[group].append(sequence)
        self._count += 1

    def remove(self, sequence: Sequence) -> None:
        """Takes it out of its group's queue, wherever it stands."""
        queue = self._waiting[sequence.group]
        queue.remove(sequence)
        self._count -= 1
        if not queue:
            del self._waiting[sequence.group]

    def charge(self, group: Hashable, tokens: int) -> None:
        """`group` has used so much; whoever has used least is served next."""
        self._used[group] = self._used.get(group, 0) + tokens
        self._most = max(self._most, self._used[group])

    def turns(self) -> "Turns":
        return Turns(self)

    def entry(self, group: Hashable) -> tuple[int, int, Sequence] | None:
        """Of the group's first: what the group has used, when the sequence came (no two came at once), itself."""
        queue = self._waiting.get(group)
        return (self._used.get(group, 0), queue[0].arrived, queue[0]) if queue else None

    def entries(self) -> list[tuple[int, int, Sequence]]:
        return [entry for group in self._waiting if (entry := self.entry(group)) is not None]

    def _floor(self) -> int:
        if self._waiting:
            return min(self._used.get(group, 0) for group in self._waiting)
        return self._most

    def _forget(self) -> None:
        """Counters of groups long gone, oldest first, so that any number of groups may come and go."""
        while len(self._used) > MAX_COUNTERS:
            group, used = self._used.popitem(last=False)
            if group in self._waiting:
                self._used[group] = used
                break


class Turns:
    """One round of admissions: `first` names the next in line, then it is either taken or its group passed over."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._heap = queues.entries()
        heapq.heapify(self._heap)

    def first(self) -> Sequence | None:
        return self._heap[0][2] if self._heap else None

    def pass_over(self) -> None:
        """Nothing more of this group in this round."""
        heapq.heappop(self._heap)

    def take(self, tokens: int) -> None:
        """The first leaves its queue and its group is charged `tokens`."""
        sequence = heapq.heappop(self._heap)[2]
        self._queues.remove(sequence)
        self._queues.charge(sequence.group, tokens)
        entry = self._queues.entry(sequence.group)
        if entry is not None:
            heapq.heappush(self._heap, entry)
