"""One measurement of `benchmarks.gpu`, in a process of its own: its last line on stdout is the result as JSON."""

import gc
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.continuous_peer import ContinuousPeer
from benchmarks.engine_peer import EnginePeer
from benchmarks.gpu import STEP, workload_of
from benchmarks.peer import Peer
from benchmarks.static_peer import StaticPeer
from benchmarks.stepping import STEPS, decoding, seconds_of
from benchmarks.timing import timed
from benchmarks.workload import Workload
from server.engine.engine import Engine
from server.engine.kv import KVCache
from server.engine.model import BaseModel

PEERS: Mapping[str, Callable[[Workload, Path, str], Peer]] = {
    "engine": EnginePeer,
    "unrecorded": partial(EnginePeer, recorded=False),
    "torch": partial(EnginePeer, native=False),
    "static": StaticPeer,
    "continuous": ContinuousPeer,
}
COPIED, COPIES = 2**30, 20
"""Bytes of a copy within the device, and how many are timed."""


def measure(plan: Mapping[str, Any]) -> dict[str, Any]:
    workload = workload_of(plan["shape"])
    if plan["what"] == STEP:
        return step(workload, Path(plan["checkpoint"]), plan["device"], plan["at"])
    peer = PEERS[plan["what"]](workload, Path(plan["checkpoint"]), plan["device"])
    rates = {}
    for concurrency in plan["at"]:
        jobs = workload.jobs(max(8, 2 * concurrency))
        peer.generate(jobs[:concurrency], concurrency)  # as many at once as are timed: kernels follow the number
        rates[str(concurrency)] = timed(peer.generate, jobs, concurrency, workload.new_tokens).tokens_per_second
    peer.close()
    return {"rates": rates, "peak_bytes": torch.cuda.max_memory_allocated() if plan["device"] == "cuda" else None}


@torch.inference_mode()
def step(workload: Workload, checkpoint: Path, device: str, at: list[int]) -> dict[str, Any]:
    """Milliseconds of the median decode step, which ends with ids that the host knows, and of its floor."""
    base = BaseModel.load(checkpoint, device=device, dtype="bfloat16")
    bandwidth, points = copied(device), []
    for concurrency in at:
        engine = decoding(base, workload, concurrency)
        recorded = engine._runner._replays is not None  # noqa: SLF001 - what no user has to know
        read = _bytes_read(engine, base)
        taken = median(seconds_of(engine._advance) for _ in range(STEPS))  # noqa: SLF001 - the loop, by hand
        point = {"at": concurrency, "step": 1e3 * taken, "floor": 1e3 * read / bandwidth, "bytes": read}
        points.append({**point, "recorded": recorded})
        del engine
        gc.collect()  # an engine and its thread know one another
    return {"points": points, "bandwidth": bandwidth, "speedup": base.speedup}


def _bytes_read(engine: Engine, base: BaseModel) -> int:
    """Every weight once, the embedding as the output layer that it is here, and what the sequences hold."""
    shape = base.shape
    per_position = KVCache.bytes_per_position(shape.layers, shape.kv_heads, shape.head_dim, base.dtype)
    held = sum(sequence.fed + STEPS // 2 for sequence in engine.slots.sequences())
    return base.parameters * base.dtype.itemsize + held * per_position


def copied(device: str) -> float:
    """Bytes a second that a copy within the device reads and writes."""
    size = COPIED if device == "cuda" else COPIED // 64
    source, target = (
        torch.ones(size, dtype=torch.uint8, device=device),
        torch.empty(size, dtype=torch.uint8, device=device),
    )

    def copies() -> None:
        for _ in range(COPIES):
            target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()

    copies()
    return 2 * size * COPIES / seconds_of(copies)


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(measure(json.loads(sys.argv[1]))) + "\n")
