"""Whether other threads go on while one works: Python's lock is kept by much of what libraries do."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Found = TypeVar("Found")


def beside(work: Callable[[], Found]) -> tuple[Found, float]:
    """What a thread's work came to, and the longest pause of this one meanwhile, as a share of the time it took."""
    with ThreadPoolExecutor(1) as other:
        began = last = time.monotonic()
        working = other.submit(work)
        longest = 0.0
        while not working.done():
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        took = time.monotonic() - began
    return working.result(), longest / took
