"""How the C library keeps memory. Knows glibc; does nothing on another.

By default each thread has a heap of its own, and what one gave back is lost to the others: a server that learned held
550 MB more than before; with one heap for all it held 300 more, and served as fast (docs/log.md).
"""

import ctypes
import os

M_ARENA_MAX = -8
"""glibc, malloc.h."""


def share_one() -> None:
    """Unless the environment says otherwise. To be called before the threads begin that compute."""
    libc = ctypes.CDLL(None)
    if "MALLOC_ARENA_MAX" not in os.environ and _is_glibc(libc):
        libc.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """To the system, all that is free. After work that needed much."""
    libc = ctypes.CDLL(None)
    if _is_glibc(libc):
        libc.malloc_trim(0)


def _is_glibc(libc: ctypes.CDLL) -> bool:
    return hasattr(libc, "gnu_get_libc_version")
