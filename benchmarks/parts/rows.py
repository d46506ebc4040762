"""What a soft prompt costs against the bare model: time to first token alone, throughput with many in flight.

The engine as a library; one kind and length at a time, each with several tasks in one batch.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import bring, first_token_seconds, in_turn, requests, running, tokens_per_second, warm_up
from benchmarks.order import Launch, Order
from benchmarks.prompts import prompt_file, resident_prompts
from benchmarks.report import Chart, charted, gathered
from benchmarks.workload import workload
from prompt_store.base import read_base
from prompt_store.metadata import KINDS, Kind
from server.engine.engine import Engine
from server.engine.request import Prompt
from server.engine.settings import EngineSettings

REPEATS = 3
BUDGET = 2 * 2**30
BARE = "bare model"
LENGTHS, TINY_LENGTHS = (20, 100, 200), (2, 10, 20)
ADAPTER_ROWS, TINY_ADAPTER_ROWS = 10, 2


@dataclass(frozen=True, slots=True)
class Plan:
    """`cases` are pairs of kind and rows in the order they are measured, the bare model's with 0 rows."""

    cases: Sequence[tuple[Kind, int]]
    concurrency: int
    requests: int
    alone: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight")


def launches(given: argparse.Namespace, turn: int) -> list[Launch]:
    """One process a repeat; each repeat begins with another case, so that no case is always the first."""
    lengths, rows = (TINY_LENGTHS, TINY_ADAPTER_ROWS) if given.tiny else (LENGTHS, ADAPTER_ROWS)
    deep: list[tuple[Kind, int]] = [("prefix", length) for length in lengths]
    cases: list[tuple[Kind, int]] = [("text", 0), *(("embeddings", length) for length in lengths)]
    cases = [*cases, *deep, ("adapter", rows)]
    start = 3 * turn % len(cases)
    plan = Plan([*cases[start:], *cases[:start]], given.concurrency, 2 * given.concurrency, 4 if given.tiny else 24)
    bare = replace(workload(tiny=given.tiny), length=0)  # what every case adds its rows to
    return [Launch("engine", Order.of(given, bare, plan).to_json())]


def measure(order: Order) -> dict[str, Any]:
    """Seconds to the first token, the median of those asked alone, and tokens per second, for each case."""
    plan, checkpoint = Plan(**order.plan), Path(order.checkpoint)
    longest = order.workload.whole + max(rows for _, rows in plan.cases)
    with running(checkpoint, EngineSettings(max_total_tokens=longest, prompt_budget=BUDGET)) as engine:
        return {"points": [_case(engine, order, plan, kind, rows) for kind, rows in plan.cases]}


def _case(engine: Engine, order: Order, plan: Plan, kind: Kind, rows: int) -> dict[str, Any]:
    """Its soft prompts leave the memory at the end."""
    shared, checkpoint = order.workload, Path(order.checkpoint)
    base = read_base(checkpoint)
    files = [prompt_file(kind, rows, index, base, checkpoint) for index in range(shared.tasks)] if rows else []
    prompts = resident_prompts(files, checkpoint)
    bring(engine, prompts)
    served: list[Prompt | None] = [*prompts] or [None]
    tasks = range(len(served))
    alone = first_token_seconds(engine, served, in_turn(tasks, plan.alone), shared)
    asked = requests(served, in_turn(tasks, plan.requests), shared)
    warm_up(engine, asked, plan.concurrency)
    rate = tokens_per_second(engine, asked, plan.concurrency)
    for prompt in prompts:
        engine.drop(prompt.digest)
    return {"kind": kind, "rows": rows, "first_token_seconds": median(alone), "tokens_per_second": rate}


def _named(point: Mapping[str, Any]) -> str:
    return f"{point['kind']}, {point['rows']} rows" if point["rows"] else BARE


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A table for each of the two figures, both beside the bare model's."""
    points = [point for run in runs for point in run["points"]]
    points.sort(key=lambda point: (KINDS.index(point["kind"]), point["rows"]))  # the bare model first
    first = gathered((_named(point), "one at a time", 1000 * point["first_token_seconds"]) for point in points)
    rates = gathered((_named(point), "many in flight", point["tokens_per_second"]) for point in points)
    by, over = "how asked", "over the bare model's"

    def bare(_: str, column: str) -> tuple[str, str]:
        return BARE, column

    return [
        charted("ms to the first token", by, first, best=min, ratio=f"the time {over}", reference=bare),
        charted("output tokens/s", by, rates, ratio=f"the rate {over}", reference=bare),
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The order of the last repeat."""
    return {"order of the last repeat": [_named(point) for point in runs[-1]["points"]]}
