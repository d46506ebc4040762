"""What happens when more tasks are asked than fit in memory: a cliff, or a slope.

The engine as a library, its budget for resident soft prompts set to a known number of tasks. A task that was thrown out
comes from the caller's memory again: reading it from the store is not in these figures.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.load import bring, first_token_seconds, requests, running, tokens_per_second
from benchmarks.order import Launch, Order
from benchmarks.popularity import Pattern, picks
from benchmarks.prompts import prompt_file, resident_prompts
from benchmarks.report import Chart, charted, gathered
from benchmarks.workload import workload
from prompt_store.base import read_base
from server.engine.settings import EngineSettings

REPEATS = 2
SHARES = (0.5, 1.0, 2.0, 4.0)
"""Working sets, in multiples of the budget."""
ASKED: Mapping[Pattern, str] = {"uniform": "asked at random", "distinct": "asked in turn (never a hit beyond x1)"}
AMPLE = 2**40


@dataclass(frozen=True, slots=True)
class Plan:
    """`fits` tasks fit the budget; `requests` per rate, `alone` per time to first token."""

    fits: int
    concurrency: int
    requests: int
    alone: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fits", type=int, default=64, help="tasks that fit the budget")
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """One process a repeat."""
    fits, alone = (8, 8) if given.tiny else (given.fits, 48)
    plan = Plan(fits, min(given.concurrency, fits // 2), 2 * given.concurrency, alone)
    return [Launch("engine", Order.of(given, workload(tiny=given.tiny), plan).to_json())]


def measure(order: Order) -> dict[str, Any]:
    """Mean seconds to the first token and tokens per second of each working set, asked at random and in turn."""
    plan, checkpoint, shared = Plan(**order.plan), Path(order.checkpoint), order.workload
    base, most = read_base(checkpoint), round(plan.fits * max(SHARES))
    files = [prompt_file("embeddings", shared.length, index, base, checkpoint) for index in range(most)]
    prompts = resident_prompts(files, checkpoint)
    with running(checkpoint, EngineSettings(max_total_tokens=shared.whole, prompt_budget=AMPLE)) as engine:
        bring(engine, prompts[:1])
        budget = plan.fits * engine.snapshot().resident_bytes
    points = []
    with running(checkpoint, EngineSettings(max_total_tokens=shared.whole, prompt_budget=budget)) as engine:
        for share in SHARES:
            mine = prompts[: round(plan.fits * share)]
            for pattern in ASKED:
                bring(engine, mine)
                alone = first_token_seconds(engine, mine, picks(pattern, len(mine), plan.alone), shared)
                bring(engine, mine)  # the warm-up too: another would ask for tasks that then are there
                asked = requests(mine, picks(pattern, len(mine), plan.requests), shared)
                rate = tokens_per_second(engine, asked, plan.concurrency)
                now = engine.snapshot()
                points.append(
                    {
                        "share": share,
                        "pattern": pattern,
                        "tasks": len(mine),
                        "first_token_seconds": mean(alone),
                        "tokens_per_second": rate,
                        "resident": now.resident_prompts,
                        "resident_bytes": now.resident_bytes,
                    }
                )
    return {"budget": budget, "points": points}


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A table for each of the two figures, both beside the working set that fits twice."""
    points = [(ASKED[point["pattern"]], f"{point['share']:g}", point) for run in runs for point in run["points"]]
    first = gathered((row, column, 1000 * point["first_token_seconds"]) for row, column, point in points)
    rates = gathered((row, column, point["tokens_per_second"]) for row, column, point in points)
    by, least = "working set over budget", f"{SHARES[0]:g}"
    return [
        charted(
            "mean ms to the first token, one at a time",
            by,
            first,
            best=min,
            ratio=f"the time over that at {least}",
            reference=lambda row, _: (row, least),
        ),
        charted(
            "output tokens/s, many in flight",
            by,
            rates,
            ratio=f"the rate over that at {least}",
            reference=lambda row, _: (row, least),
        ),
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The budget, and that it was kept."""
    points = runs[0]["points"]
    return {
        "budget in bytes": runs[0]["budget"],
        "most bytes in memory after a figure": max(point["resident_bytes"] for point in points),
        "most soft prompts in memory": max(point["resident"] for point in points),
    }
