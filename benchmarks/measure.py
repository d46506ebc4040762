"""One peer, measured in a process of its own: `python -m benchmarks.measure '{"peer": ..., ...}'`.

Its last line on stdout is the result as JSON. A process each, because peers set threads, register attention functions
and keep memory. Knows no other peer's figures.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import Peer, peers
from benchmarks.workload import Job, Shape, Workload


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure. `requests[i]` jobs are run with `concurrency[i]` in flight."""

    peer: str
    checkpoint: str
    workload: Workload
    concurrency: tuple[int, ...]
    requests: tuple[int, ...]
    threads: int
    sketch: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Order":
        given: dict[str, Any] = json.loads(text)
        workload = given.pop("workload")
        shape = Shape(**workload.pop("shape"))
        return cls(**given, workload=Workload(shape=shape, **workload))


@dataclass(frozen=True, slots=True)
class Timing:
    """`first_ids`: what each request was answered first, to be compared between peers."""

    concurrency: int
    requests: int
    seconds: float
    tokens_per_second: float
    first_ids: list[int]


def timed(peer: Peer, jobs: Sequence[Job], concurrency: int, new_tokens: int) -> Timing:
    """Raises ValueError when an answer is not exactly `new_tokens` ids long: another workload would be measured."""
    began = time.perf_counter()
    answers = peer.generate(jobs, concurrency)
    seconds = time.perf_counter() - began
    if any(len(answer) != new_tokens for answer in answers):
        raise ValueError(f"an answer has other than {new_tokens} ids")
    rate = len(jobs) * new_tokens / seconds
    return Timing(concurrency, len(jobs), seconds, rate, [answer[0] for answer in answers])


def measure(order: Order) -> dict[str, Any]:
    """Load seconds, peak resident bytes, and one timing per concurrency after a warm-up at that concurrency."""
    torch.set_num_threads(order.threads)
    began = time.perf_counter()
    make = peers(Path(order.sketch) if order.sketch else None)[order.peer]
    peer = make(order.workload, Path(order.checkpoint))
    loaded = time.perf_counter() - began
    timings = []
    for concurrency, requests in zip(order.concurrency, order.requests, strict=True):
        peer.generate(order.workload.jobs(min(concurrency, 8)), concurrency)
        timings.append(timed(peer, order.workload.jobs(requests), concurrency, order.workload.new_tokens))
    return {
        "peer": order.peer,
        "load_seconds": loaded,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "timings": [asdict(timing) for timing in timings],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Order.from_json(sys.argv[1]))) + "\n")
