"""Whether throughput depends on how many tasks there are, under the popularity patterns of benchmarks.popularity.

The engine as a library; tasks are brought into memory as their number grows, so each figure is one with so many there.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import bring, requests, running, tokens_per_second, warm_up
from benchmarks.order import Launch, Order
from benchmarks.popularity import PATTERNS, picks
from benchmarks.prompts import prompt_file, resident_prompts
from benchmarks.report import Chart, charted, gathered
from benchmarks.workload import workload
from prompt_store.base import read_base
from server.engine.settings import EngineSettings

REPEATS = 2
BUDGET = 4 * 2**30
"""Of resident soft prompts: all of them stay."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`counts` of tasks, growing, from 1; `requests` per figure, `concurrency` of them in flight."""

    counts: Sequence[int]
    concurrency: int
    requests: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 10, 100, 1000], help="of tasks, growing, from 1")
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """One process a repeat. Raises SystemExit for counts that do not grow from 1."""
    if given.counts[0] != 1 or sorted(set(given.counts)) != given.counts:
        raise SystemExit("--counts must grow, from 1")
    counts = [count for count in given.counts if not given.tiny or count <= 10]
    plan = Plan(counts, given.concurrency, 2 * given.concurrency)
    return [Launch("engine", Order.of(given, workload(tiny=given.tiny), plan).to_json())]


def measure(order: Order) -> dict[str, Any]:
    """Tokens per second at each number of tasks and each pattern, and how many different tasks were asked there."""
    plan, checkpoint, shared = Plan(**order.plan), Path(order.checkpoint), order.workload
    base = read_base(checkpoint)
    files = [prompt_file("embeddings", shared.length, index, base, checkpoint) for index in range(max(plan.counts))]
    prompts = resident_prompts(files, checkpoint)
    points = []
    with running(checkpoint, EngineSettings(max_total_tokens=shared.whole, prompt_budget=BUDGET)) as engine:
        known = 0
        for count in plan.counts:
            bring(engine, prompts[known:count])
            known = count
            for pattern in PATTERNS if count > 1 else PATTERNS[-1:]:
                chosen = picks(pattern, count, plan.requests)
                asked = requests(prompts, chosen, shared)
                warm_up(engine, asked, plan.concurrency)
                rate = tokens_per_second(engine, asked, plan.concurrency)
                point = {"tasks": count, "pattern": pattern, "asked": len(set(chosen)), "tokens_per_second": rate}
                points.append({**point, "resident": engine.snapshot().resident_prompts})
    return {"points": points}


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Tokens per second by number of tasks. One task is one task under every pattern: measured once a repeat."""
    found = gathered(
        (pattern, f"{point['tasks']:,}", point["tokens_per_second"])
        for run in runs
        for point in run["points"]
        for pattern in (PATTERNS if point["tasks"] == 1 else (point["pattern"],))
    )
    return [
        charted(
            "output tokens/s",
            "number of tasks",
            found,
            ratio="the rate over that with 1 task",
            reference=lambda row, _: (row, "1"),
        )
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many different tasks the requests of one figure were of."""
    return {
        "different tasks asked": {
            f"{point['pattern']}, {point['tasks']:,}": point["asked"] for point in runs[0]["points"]
        }
    }
