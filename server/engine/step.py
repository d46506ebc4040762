"""What one forward pass is to do: whom it feeds how much, who starts in it, and what moves first.

Knows sequences and their slots; who is chosen, and what the pass computes, are others' business.
"""

from dataclasses import dataclass, field

from server.engine.residency import Unloadable
from server.engine.sequence import Sequence
from server.engine.slots import Move


@dataclass(frozen=True, slots=True)
class Chunk:
    """Feed ids[start : start + count] of a sequence; scoring branches feed continuations[start : start + count]."""

    sequence: Sequence
    start: int
    count: int
    branches: bool = False


@dataclass(slots=True)
class Step:
    """One forward pass. `admitted` sequences first get what is known of their beginning copied into their slot.

    What has been done of `moves` and `admitted` leaves the lists: a step may be tried again.
    `failed` never start: their soft prompt cannot be brought into memory.
    Slots 0 .. `high` - 1 may be held; none of them will need more than `reach` positions for what it has to be fed.
    """

    decodes: list[Sequence] = field(default_factory=list)
    prefills: list[Chunk] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    failed: list[tuple[Sequence, Unloadable]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    high: int = 0
    reach: int = 0

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)

    def sequences(self) -> list[Sequence]:
        """Each is in one step once."""
        return [*self.decodes, *(chunk.sequence for chunk in self.prefills)]

    @property
    def youngest(self) -> Sequence:
        """Who started last, though nothing of it may be fed yet: nobody else copies from its slot."""
        return max([*self.sequences(), *self.admitted], key=lambda sequence: sequence.admitted)

    def leave(self, sequence: Sequence) -> None:
        """Nothing of it is fed, if it was in here."""
        self.decodes = [one for one in self.decodes if one is not sequence]
        self.prefills = [chunk for chunk in self.prefills if chunk.sequence is not sequence]
        self.admitted = [one for one in self.admitted if one is not sequence]

    def parted(self, some: list[Sequence]) -> tuple["Step", "Step"]:
        """Passes of `some` and of the others, in slots that have been laid out and begun for both."""
        parts = Step(high=self.high, reach=self.reach), Step(high=self.high, reach=self.reach)
        for sequence in self.decodes:
            parts[sequence not in some].decodes.append(sequence)
        for chunk in self.prefills:
            parts[chunk.sequence not in some].prefills.append(chunk)
        return parts
