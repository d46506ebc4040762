"""What a sweep of eight seeds costs beside eight runs one after the other: the same steps, the same results.

Prompt tuning on SNIPS with the embedded base. Needs the data sets (README), not the workload.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.order import Launch, Order
from benchmarks.report import Chart, charted, gathered
from benchmarks.workload import workload
from demos.recipes import RECIPES
from server.config import EMBEDDED_BASE
from tuning.base import FrozenBase
from tuning.encoding import Encodings
from tuning.examples import Example
from tuning.learn import Settings, Sweep, Tuning
from tuning.loading import load
from tuning.plan import Plan as Told
from tuning.plan import Precision
from tuning.splits import split

REPEATS = 2
SIDES = ("eight runs", "one sweep of eight")
RUNS, RATE = 8, 1.0
ROWS, HELD_OUT = 2000, 8


@dataclass(frozen=True, slots=True)
class Plan:
    """One side, with so many rows a step, in one precision."""

    side: str
    data: str
    precision: Precision
    batch_sizes: Sequence[int]
    steps: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder with all data sets")
    parser.add_argument("--steps", type=int, default=40, help="optimiser steps of every run")
    parser.add_argument("--batch-size", nargs="+", type=int, default=[4, 8, 16, 32], help="rows a step")


def launches(given: argparse.Namespace, turn: int) -> list[Launch]:
    """A process for each side and precision. Raises SystemExit without the data."""
    if not given.data.is_dir():
        raise SystemExit(f"{given.data}: no data sets here; --data says where they are")
    chosen, data = workload(tiny=given.tiny), str(given.data.absolute())
    steps = 2 if given.tiny else given.steps
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    plans = [Plan(side, data, precision, given.batch_size, steps) for precision in precisions for side in SIDES]
    found = [Launch(f"{one.side}, {one.precision}", Order.of(given, chosen, one).to_json()) for one in plans]
    return found if turn % 2 == 0 else found[::-1]


def measure(order: Order) -> dict[str, Any]:
    """Seconds of learning, beginning and evaluations included, loading and reading rows not."""
    plan = Plan(**order.plan)
    recipe, base = RECIPES["intent"], load(EMBEDDED_BASE)
    rows = [recipe.example(row) for row in split(Path(plan.data), recipe.data_set).train][:ROWS]
    parts = rows[HELD_OUT:], rows[:HELD_OUT]
    seconds = []
    for batch_size in plan.batch_sizes:
        began = time.perf_counter()
        for seeds in [range(RUNS)] if plan.side == SIDES[1] else [[seed] for seed in range(RUNS)]:
            encodings = Encodings()
            _learn(base, [_run(base, plan, batch_size, seed, parts, encodings) for seed in seeds])
        seconds.append(time.perf_counter() - began)
    return {"side": plan.side, "precision": plan.precision, "batch_sizes": plan.batch_sizes, "seconds": seconds}


def _run(  # noqa: PLR0913, PLR0917 - what a run is made of
    base: FrozenBase, plan: Plan, batch_size: int, seed: int, parts: Sequence[Sequence[Example]], encodings: Encodings
) -> Tuning:
    recipe = RECIPES["intent"]
    told = Told("labels", plan.steps, batch_size, RATE, 10, plan.steps, 10, seed, plan.precision)
    settings = Settings("{text}\nIt is", told, labels=recipe.labels, length=20)
    return Tuning(base, settings, parts[0], parts[1], str(seed), encodings)


def _learn(base: FrozenBase, runs: Sequence[Tuning]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for _ in Sweep(base, runs).events(Path(folder) / "checkpoint"):
            pass


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A table for each precision."""
    return [_chart(precision, runs) for precision in dict.fromkeys(run["precision"] for run in runs)]


def _chart(precision: str, runs: Sequence[Mapping[str, Any]]) -> Chart:
    found = gathered(
        (run["side"], str(batch_size), seconds)
        for run in sorted(runs, key=lambda run: SIDES.index(run["side"]))
        if run["precision"] == precision
        for batch_size, seconds in zip(run["batch_sizes"], run["seconds"], strict=True)
    )
    return charted(
        f"seconds, {precision}",
        "rows a step of each run",
        found,
        best=min,
        ratio="of eight runs'",
        reference=lambda _, column: (SIDES[0], column),
    )


def notes(_runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is not in it."""
    return {"not in it": "starting a process, loading the base and reading the rows, which a sweep does once"}
