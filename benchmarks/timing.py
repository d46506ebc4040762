"""How a peer is timed, the same for every one. Imports the standard library alone: other interpreters run it too.

Knows no workload and no peer, only a function that answers jobs.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

J = TypeVar("J")
Generate = Callable[[Sequence[J], int], list[list[int]]]
"""The new ids of every job, in order, with at most so many of them in flight."""
WARM_UP = 8


@dataclass(frozen=True, slots=True)
class Timing:
    """`first_ids`: what each request was answered first, to be compared between peers."""

    concurrency: int
    requests: int
    seconds: float
    tokens_per_second: float
    first_ids: list[int]


def timed(generate: Generate[J], jobs: Sequence[J], concurrency: int, new_tokens: int) -> Timing:
    """Raises ValueError when an answer is not exactly `new_tokens` ids long: another workload would be measured."""
    began = time.perf_counter()
    answers = generate(jobs, concurrency)
    seconds = time.perf_counter() - began
    if [len(answer) for answer in answers] != [new_tokens] * len(jobs):
        raise ValueError(f"an answer has other than {new_tokens} ids")
    tokens = sum(map(len, answers))
    return Timing(concurrency, len(jobs), seconds, tokens / seconds, [answer[0] for answer in answers])


def warm_and_timed(generate: Generate[J], jobs: Sequence[J], concurrency: int, new_tokens: int) -> Timing:
    """After a warm-up at the same concurrency, with the first few of the jobs."""
    generate(jobs[: min(concurrency, WARM_UP)], concurrency)
    return timed(generate, jobs, concurrency, new_tokens)


def peak_bytes() -> int:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_set() -> int:
    """The memory that this process holds now, where /proc says so (Linux); elsewhere the most it ever held."""
    counts = Path("/proc/self/statm")
    return int(counts.read_text().split()[1]) * resource.getpagesize() if counts.is_file() else peak_bytes()
