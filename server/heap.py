"""How memory is kept: by the C library, of which this knows glibc, and by Python's collector.

By default each thread has a heap of its own, and what one gave back is lost to the others: a server that learned held
550 MB more than before; with one heap for all it held 300 more, and served as fast (docs/log.md).
"""

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable

M_ARENA_MAX = -8
"""glibc, malloc.h."""
THRESHOLDS = (10_000, 20, 50)
"""Objects more than before until the youngest are looked at, and of how many such looks one goes deeper, by default
(700, 10, 10)."""
TIDY_SECONDS = 60.0
"""What is free is looked through so often: some tens of milliseconds in which no thread gets memory from the system."""
REST_SECONDS = 1.0
"""Without work, until that is done at once: whoever rests holds what it needs."""


def share_one() -> None:
    """Unless the environment says otherwise. To be called before the threads begin that compute."""
    libc = ctypes.CDLL(None)
    if "MALLOC_ARENA_MAX" not in os.environ and _is_glibc(libc):
        libc.mallopt(M_ARENA_MAX, 1)


def settle() -> None:
    """Once, when all is loaded that stays: the collector looks at none of it again, and seldom at all of the rest.

    A base and its libraries are half a million objects, a crowd that waits half of that. Every full collection stopped
    all threads for a third of a second and found next to nothing, and came the more often the more was asked
    (docs/log.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def give_back() -> None:
    """To the system, all that is free. After work that needed much."""
    libc = ctypes.CDLL(None)
    if _is_glibc(libc):
        libc.malloc_trim(0)


async def keep_giving_back(
    work: Callable[[], int], gave: Callable[[], None], every: float = TIDY_SECONDS, rest: float = REST_SECONDS
) -> None:
    """Until cancelled. Tensors of ever other sizes leave holes, which in an hour were a hundred megabytes.

    `work`: a number that rises with what is done. `gave`: called each time.
    """
    clock = asyncio.get_running_loop().time
    seen = given = work()
    due = clock() + every
    while True:
        await asyncio.sleep(rest)
        before, seen = seen, work()
        rested = seen == before != given
        if rested or clock() >= due:
            await asyncio.to_thread(give_back)
            given, due = seen, clock() + every
            gave()


def _is_glibc(libc: ctypes.CDLL) -> bool:
    return hasattr(libc, "gnu_get_libc_version")
