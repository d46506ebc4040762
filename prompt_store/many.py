"""One thing done to many objects, some at a time, as a bucket takes its time over each; and who is told how far it is.

Knows neither objects nor screens.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 8
TOGETHER = 32
"""Objects that a thread is handed at once."""


class Steps(Protocol):
    """Is told what begins, and of how many parts where that is known; gives what is to be called for parts done."""

    def __call__(self, what: str, total: int | None, /) -> Callable[[int], None]:
        """Begin a step."""


def silent(_what: str, _total: int | None, /) -> Callable[[int], None]:
    """Nobody wants to know."""
    return lambda _count: None


def each(function: Callable[[T], R], items: Iterable[T], done: Callable[[int], None]) -> Iterator[R]:
    """What `function` gives, in order, a handful to a thread. The first error ends it."""

    def some(handed: list[T]) -> list[R]:
        return [function(one) for one in handed]

    for found in at_once(THREADS, some, _handfuls(items)):
        done(len(found))
        yield from found


def at_once(count: int, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `do` makes of each, in order. No more than `count` are ahead of the one that the caller takes.

    The first error ends it; what has begun by then is waited for.
    """
    if count == 1:
        yield from map(do, items)
        return
    rest = iter(items)
    pool = ThreadPoolExecutor(count)
    try:
        ahead = deque(pool.submit(do, item) for item in islice(rest, count))
        while ahead:
            done = ahead.popleft().result()
            ahead.extend(pool.submit(do, item) for item in islice(rest, 1))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _handfuls(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while handed := list(islice(rest, TOGETHER)):
        yield handed
