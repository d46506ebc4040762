"""One thing done to many objects, some at a time, as a bucket takes its time over each; and who is told how far it is.

Knows neither objects nor screens.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
    """What `function` gives, in order. The first error ends it; what has begun by then is waited for."""
    left = iter(items)
    pool = ThreadPoolExecutor(THREADS)
    waiting: deque[Future[list[R]]] = deque()
    try:
        while True:
            while len(waiting) < 2 * THREADS and (handed := list(islice(left, TOGETHER))):
                waiting.append(pool.submit(lambda some: [function(one) for one in some], handed))
            if not waiting:
                return
            found = waiting.popleft().result()
            done(len(found))
            yield from found
    finally:
        pool.shutdown(cancel_futures=True)


def at_once(count: int, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `do` makes of each, in order. No more than `count` are ahead of the one that the caller takes."""
    if count == 1:
        yield from map(do, items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(count) as pool:
        ahead = deque(pool.submit(do, item) for item in islice(rest, count))
        while ahead:
            done = ahead.popleft().result()
            ahead.extend(pool.submit(do, item) for item in islice(rest, 1))
            yield done
