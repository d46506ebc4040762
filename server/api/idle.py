"""The connections on which nobody is answered, in the order in which they make room. Knows neither sockets nor HTTP."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from enum import IntEnum
from itertools import chain
from typing import Generic, TypeVar

Connection = TypeVar("Connection", bound=Hashable)


class Rank(IntEnum):
    """Why nobody is answered: nothing ever came; the last answer is over; a request has begun and is not whole."""

    SILENT = 0
    KEPT = 1
    BEGUN = 2


class Idle(Generic[Connection]):
    """Each rank in the order they came to it."""

    def __init__(self) -> None:
        self._ranks: dict[Rank, OrderedDict[Connection, None]] = {rank: OrderedDict() for rank in Rank}
        self._of: dict[Connection, Rank] = {}

    def put(self, connection: Connection, rank: Rank) -> None:
        """It came to `rank` now."""
        self.take(connection)
        self._ranks[rank][connection] = None
        self._of[connection] = rank

    def take(self, connection: Connection) -> None:
        """It is answered, or has ended."""
        rank = self._of.pop(connection, None)
        if rank is not None:
            del self._ranks[rank][connection]

    def rank(self, connection: Connection) -> Rank | None:
        """None where it is answered, or has ended."""
        return self._of.get(connection)

    def in_turn(self) -> Iterator[Connection]:
        """Who makes room, the first one first: the silent before the others, and of each rank the longest idle."""
        return chain.from_iterable(self._ranks.values())
