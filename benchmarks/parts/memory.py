"""What a job keeps in memory beside the base, by the positions of a pass: where the line begins is no copy of weights.

The server's base and its way back, in a process of its own for each size; peaks above what is resident before learning.
"""

import argparse
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.order import Launch, Order
from benchmarks.prompts import texts
from benchmarks.report import Chart, charted
from benchmarks.serving import resident
from benchmarks.workload import workload
from server.engine.model import BaseModel, one_thread
from server.heap import give_back, share_one
from server.jobs.learner import learner
from server.tokenizer import Tokenizer
from tuning.examples import Example
from tuning.learn import Settings, Tuning
from tuning.plan import Plan as Told

REPEATS = 1
ROWS, STEPS, BATCH = 64, 3, 16
LOOK_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Plan:
    """Padded positions of one pass."""

    positions: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--positions", nargs="+", type=int, default=[64, 128, 256, 512], help="of a pass")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """A process for each size, of a base that can end an answer."""
    found = workload(tiny=given.tiny)
    ending = replace(found, shape=replace(found.shape, end=2))
    return [Launch(str(size), Order.of(given, ending, Plan(size)).to_json()) for size in given.positions]


def measure(order: Order) -> dict[str, Any]:
    """Bytes: of the base's weights, and the peak beside them while a few steps are learnt."""
    share_one()
    checkpoint, shared = Path(order.checkpoint), order.workload
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        base = BaseModel.load(checkpoint, device="cpu", dtype="bfloat16")
        found = learner(base, Tokenizer.load(checkpoint))
        found.positions = order.plan["positions"]
        lines = texts(checkpoint, ROWS, shared.input_tokens // 2)
        rows = [Example({"text": text}, "ab"[index % 2]) for index, text in enumerate(lines)]
        plan = Told("labels", steps=STEPS, batch_size=BATCH, evaluate_every=STEPS)
        settings = Settings("{text}", plan, labels=("a", "b"), length=shared.length, max_new_tokens=1)
        tuning = Tuning(found, settings, rows[BATCH:], rows[:BATCH])
        give_back()
        before = resident()
        with _watching() as peak:
            for _ in tuning.events(Path(folder) / "checkpoint"):
                pass
    return {"positions": order.plan["positions"], "peak": peak[0] - before, "weights": 2 * found.parameters}


@contextmanager
def _watching() -> Iterator[list[int]]:
    """The most that is resident meanwhile, as the one element of a list."""
    peak, ended = [resident()], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            peak[0] = max(peak[0], resident())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield peak
    finally:
        ended.set()
        looker.join()


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """MiB by positions, beside a copy of the weights."""
    found: dict[str, dict[str, list[float]]] = {"while learning": {}, "a copy of the weights": {}}
    for run in runs:
        for row, name in (("while learning", "peak"), ("a copy of the weights", "weights")):
            found[row].setdefault(str(run["positions"]), []).append(run[name] / 2**20)
    return [charted("MiB beside the base", "padded positions of a pass", found, best=min)]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The straight line through the smallest and the largest pass."""
    least, most = (pick(runs, key=lambda run: run["positions"]) for pick in (min, max))
    if least["positions"] == most["positions"]:
        return {}
    slope = (most["peak"] - least["peak"]) / (most["positions"] - least["positions"])
    start = least["peak"] - slope * least["positions"]
    return {"MiB a position": round(slope / 2**20, 2), "MiB of no position": round(start / 2**20)}
