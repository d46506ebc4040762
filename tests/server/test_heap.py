"""One heap, and what is free of it goes back to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.heap import give_back

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


def test_what_is_free_goes_back_to_the_system() -> None:
    """Even below something that is still held."""
    pieces = [bytearray(PIECE) for _ in range(PIECES)]
    for piece in pieces:
        piece[:] = b"x" * PIECE
    last = pieces[-1]
    full = resident()
    del pieces, piece
    give_back()
    assert full - resident() > PIECE * PIECES / 2
    assert last[0]


@pytest.mark.parametrize(("way", "heaps"), [("shared", 1), ("own", 2)])
def test_threads_share_one_heap(way: str, heaps: int) -> None:
    """Where nobody says so each has its own."""
    done = subprocess.run([sys.executable, "-c", THREADS, way], capture_output=True, text=True, check=True, cwd=HERE)
    assert min(done.stderr.count("Arena "), 2) == heaps
