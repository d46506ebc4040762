"""How soon: from the start of the process to an answer, from publishing to a first token, and a swap under load.

A real `softprompt serve` on loopback; every figure is a client's. Files are made ahead of the clock.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.order import Launch, Order
from benchmarks.prompts import prompt_file, texts
from benchmarks.report import Chart, charted
from benchmarks.serving import Client, Reply, closed_loop, question, serving
from benchmarks.workload import workload
from prompt_store.base import read_base
from prompt_store.metadata import KINDS, Kind
from prompt_store.prompt import PromptFile

REPEATS = 3
ADAPTER_ROWS = 10
VERSIONS = 8
"""Contents that the swapped task goes through, over and over: each is another than the one before it."""
EVERY = 0.25
"""Seconds between two swaps."""
SWAPPED = "swapped"


@dataclass(frozen=True, slots=True)
class Plan:
    """`publishes` of each kind; `requests` with `concurrency` in flight while a task is swapped."""

    publishes: int
    concurrency: int
    requests: int


@dataclass(slots=True)
class Swaps:
    """What a publisher and the clients beside it saw. `acknowledged`: the newest version that a PUT has answered."""

    acknowledged: int
    made: int = 0
    dropped: int = 0
    stale: int = 0
    versions: set[int] = field(default_factory=set)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight while a task is swapped")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """One server a repeat."""
    plan = Plan(*((3, 4, 64) if given.tiny else (20, given.concurrency, 4 * given.concurrency)))
    return [Launch("server", Order.of(given, workload(tiny=given.tiny), plan).to_json())]


def measure(order: Order) -> dict[str, Any]:
    """All of it on one server, from its start on."""
    plan, checkpoint, shared = Plan(**order.plan), Path(order.checkpoint), order.workload
    asked = texts(checkpoint, plan.requests, shared.input_tokens)
    files = {kind: _files(kind, order, plan.publishes) for kind in KINDS}
    swapped = _files("embeddings", order, VERSIONS, first=plan.publishes)
    with tempfile.TemporaryDirectory() as store, serving(order, store) as served:
        with closing(Client(served.url)) as client:
            first = client.streamed(question(None, asked[0], 1)).first
            published = {kind: [_fresh(client, file, asked[0]) for file in made] for kind, made in files.items()}
            client.put(SWAPPED, swapped[-1].data)
        bodies = [question(SWAPPED, text, shared.new_tokens) for text in asked]
        calm = _loaded(served.url, bodies, plan, None)
        return {
            "start_to_ready": served.ready - served.started,
            "start_to_first_answer": first - served.started,
            "publish_to_first_token": published,
            "calm": calm,
            "swapping": _loaded(served.url, bodies, plan, swapped),
        }


def _files(kind: Kind, order: Order, count: int, first: int = 0) -> list[PromptFile]:
    checkpoint = Path(order.checkpoint)
    rows = min(ADAPTER_ROWS, order.workload.length) if kind == "adapter" else order.workload.length
    base = read_base(checkpoint)
    return [prompt_file(kind, rows, first + index, base, checkpoint) for index in range(count)]


def _fresh(client: Client, file: PromptFile, text: str) -> float:
    """Seconds from the first byte of a new task's PUT to its first token."""
    task = f"fresh-{file.digest[:16]}"
    began = time.perf_counter()
    client.put(task, file.data)
    return client.streamed(question(task, text, 1)).first - began


def _loaded(url: str, bodies: Sequence[bytes], plan: Plan, swapped: Sequence[PromptFile] | None) -> dict[str, Any]:
    """Tokens per second of clients in a closed loop, and, with files to publish meanwhile, what became of the answers.

    Every answer must have all its tokens and be of no older version than the newest acknowledged when it was asked for.
    """
    ended = threading.Event()
    swaps = Swaps(acknowledged=1)
    publisher = threading.Thread(target=_publish, args=(url, swapped or [], swaps, ended))
    publisher.start()
    began = time.perf_counter()
    replies = closed_loop(url, lambda client, body: _asked(client, body, swaps), bodies, plan.concurrency)
    seconds = time.perf_counter() - began
    ended.set()
    publisher.join()
    tokens = sum(reply.tokens for reply in replies if reply is not None)
    return {
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "answers": sum(reply is not None for reply in replies),
        "dropped": swaps.dropped,
        "stale": swaps.stale,
        "swaps": swaps.made,
        "versions_answered": len(swaps.versions),
    }


def _publish(url: str, files: Sequence[PromptFile], swaps: Swaps, ended: threading.Event) -> None:
    with closing(Client(url)) as client:
        for file in cycle(files):
            swaps.acknowledged = client.put(SWAPPED, file.data)
            swaps.made += 1
            if ended.wait(EVERY):
                return


def _asked(client: Client, body: bytes, swaps: Swaps) -> Reply | None:
    """None for a request that got no whole answer, whatever the reason: it counts as dropped."""
    known = swaps.acknowledged
    try:
        reply = client.streamed(body)
    except (RuntimeError, OSError):
        swaps.dropped += 1
        return None
    if reply.version is not None:
        swaps.versions.add(reply.version)
        swaps.stale += reply.version < known
    return reply


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Start, publishing and load."""
    start = {
        "softprompt serve": {
            "ready": [run["start_to_ready"] for run in runs],
            "first answer": [run["start_to_first_answer"] for run in runs],
        }
    }
    published: dict[str, dict[str, list[float]]] = {
        kind: {
            "median": [1000 * median(run["publish_to_first_token"][kind]) for run in runs],
            "slowest": [1000 * max(run["publish_to_first_token"][kind]) for run in runs],
        }
        for kind in KINDS
    }
    load = {
        label: {"all": [run[name]["tokens_per_second"] for run in runs]}
        for name, label in (("calm", "no swaps"), ("swapping", f"a swap every {EVERY} s"))
    }
    return [
        charted("seconds from the start of the process", "until", start, best=min),
        charted("ms from the start of PUT to the first token", "publish of a repeat", published, best=min),
        charted(
            "output tokens/s of one task under load",
            "requests",
            load,
            ratio="the rate over that without swaps",
            reference=lambda _, column: ("no swaps", column),
        ),
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What became of the answers while the task was swapped, over all repeats."""
    names = ("swaps", "answers", "dropped", "stale")
    return {f"under swaps: {name}": sum(run["swapping"][name] for run in runs) for name in names}
