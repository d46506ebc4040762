"""One heap, and what is free of it goes back to the system."""

import asyncio
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from server.heap import give_back, keep_giving_back
from tests.server.site import until

HERE = Path(__file__).parents[2]
PIECE, PIECES = 100_000, 2_000
THREADS = """
import sys, threading
from server.heap import share_one
if sys.argv[1] == "shared":
    share_one()
held = []
threads = [threading.Thread(target=lambda: held.append(bytes(100_000))) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
import ctypes
ctypes.CDLL(None).malloc_stats()
"""
"""glibc's own count of its heaps, on standard error."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these heaps")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def gone(full: int) -> bool:
    return full - resident() > PIECE * PIECES / 2


def full_of_holes() -> bytearray:
    """What is still held above them."""
    pieces = [bytearray(PIECE) for _ in range(PIECES)]
    for piece in pieces:
        piece[:] = b"x" * PIECE
    return pieces[-1]


def test_what_is_free_goes_back_to_the_system() -> None:
    """Even below something that is still held."""
    last = full_of_holes()
    full = resident()
    give_back()
    assert gone(full)
    assert last[0]


async def test_what_is_free_goes_back_again_and_again() -> None:
    """As long as the server runs."""
    tidy = asyncio.create_task(keep_giving_back(int, lambda: None, 0.01, 0.01))
    for _ in range(2):
        last = full_of_holes()
        full = resident()
        await asyncio.to_thread(until, partial(gone, full), "half of it has gone back")
        assert last[0]
    tidy.cancel()


async def test_what_is_free_goes_back_once_when_work_is_over() -> None:
    """Not while it goes on, and not again until there was more."""
    done = 0
    given: list[int] = []

    def work() -> int:
        nonlocal done
        looked.release()
        done += busy
        return done

    looked, busy = threading.Semaphore(0), True

    async def looks(count: int) -> None:
        for _ in range(count):
            await asyncio.to_thread(looked.acquire)

    tidy = asyncio.create_task(keep_giving_back(work, lambda: given.append(done), 3600, 0.001))
    for _ in range(2):
        before, busy = list(given), True
        await looks(10)
        assert given == before
        busy = False
        await looks(10)
        assert given == [*before, done]
    tidy.cancel()


@pytest.mark.parametrize(("way", "heaps"), [("shared", 1), ("own", 2)])
def test_threads_share_one_heap(way: str, heaps: int) -> None:
    """Where nobody says so each has its own."""
    done = subprocess.run([sys.executable, "-c", THREADS, way], capture_output=True, text=True, check=True, cwd=HERE)
    assert min(done.stderr.count("Arena "), 2) == heaps
