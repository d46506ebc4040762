"""What a task takes, in memory and on disk, against a fine-tuned copy of the base for each.

The engine as a library and the store as a folder. The copies' bytes are computed: so many times the checkpoint's.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import bring, running
from benchmarks.order import BUILD, Launch, Order
from benchmarks.prompts import prompt_file, resident_prompts
from benchmarks.report import Chart, charted, gathered
from benchmarks.timing import resident_set
from benchmarks.workload import workload
from prompt_store.base import read_base, shards
from prompt_store.metadata import KINDS, Kind
from prompt_store.store import Store
from server.engine.engine import Engine
from server.engine.settings import EngineSettings

REPEATS = 1
BUDGET = 64 * 2**30
"""Of resident soft prompts: all of them stay, whatever they take."""
ADAPTER_ROWS = 10
COPIES = "fine-tuned copies (computed)"
MIB = 2**20
BATCH = 50
"""Files made at once: they are not what is measured, and must not be in memory when it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`counts` of tasks, growing, each of `rows` pseudo-tokens."""

    kind: Kind
    rows: int
    counts: Sequence[int]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 10, 100, 1000], help="of tasks, growing")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """A process for each kind. Raises SystemExit for counts that do not grow."""
    if sorted(set(given.counts)) != given.counts:
        raise SystemExit("--counts must grow")
    chosen = workload(tiny=given.tiny)
    counts = [count for count in given.counts if not given.tiny or count <= 10]
    found = []
    for kind in KINDS:
        rows = min(ADAPTER_ROWS, chosen.length) if kind == "adapter" else chosen.length
        found.append(Launch(kind, Order.of(given, chosen, Plan(kind, rows, counts)).to_json()))
    return found


def measure(order: Order) -> dict[str, Any]:
    """Bytes with so many tasks: resident as the engine counts them, more of the process's memory, on disk."""
    plan, checkpoint = Plan(**order.plan), Path(order.checkpoint)
    settings = EngineSettings(max_total_tokens=order.workload.whole, prompt_budget=BUDGET)
    points = []
    with tempfile.TemporaryDirectory(dir=BUILD) as folder, running(checkpoint, settings) as engine:
        store = Store.open(folder)
        warm = prompt_file(plan.kind, plan.rows, max(plan.counts), read_base(checkpoint), checkpoint)
        bring(engine, resident_prompts([warm], checkpoint))
        engine.drop(warm.digest)
        before, made = resident_set(), 0
        for count in plan.counts:
            while made < count:
                more = range(made, min(made + BATCH, count))
                _publish(plan, more, checkpoint, store, engine)
                made = more.stop
            now = engine.snapshot()
            grown = {"tasks": now.resident_prompts, "resident": now.resident_bytes, "grown": resident_set() - before}
            points.append({**grown, "disk": _on_disk(Path(folder))})
    return {"points": points, "checkpoint": sum(shard.stat().st_size for shard in shards(checkpoint))}


def _publish(plan: Plan, indices: range, checkpoint: Path, store: Store, engine: Engine) -> None:
    """Into the store and into memory; the files themselves are gone when it returns."""
    base = read_base(checkpoint)
    files = [prompt_file(plan.kind, plan.rows, index, base, checkpoint) for index in indices]
    for index, file in zip(indices, files, strict=True):
        store.publish(f"task-{index}", file, verified=True, op_id=f"bench-{index}")
    bring(engine, resident_prompts(files, checkpoint))


def _on_disk(folder: Path) -> int:
    """What the file system gave away for files and folders, manifests included."""
    return sum(entry.stat().st_blocks * 512 for entry in folder.rglob("*"))


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A table for each of the three, all beside the computed copies."""
    quantities = {
        "resident": "MiB in memory, as the engine counts",
        "grown": "MiB more of the process's memory",
        "disk": "MiB on disk",
    }
    return [
        charted(
            quantity,
            "number of tasks",
            _found(runs, name),
            best=min,
            ratio="how many times as much the copies take",
            reference=lambda _, column: (COPIES, column),
            inverted=True,
        )
        for name, quantity in quantities.items()
    ]


def _found(runs: Sequence[Mapping[str, Any]], name: str) -> dict[str, dict[str, list[float]]]:
    found = gathered(
        (run["label"], f"{point['tasks']:,}", point[name] / MIB) for run in runs for point in run["points"]
    )
    counts = [point["tasks"] for point in runs[0]["points"]]
    found[COPIES] = {f"{count:,}": [count * runs[0]["checkpoint"] / MIB] for count in counts}
    return found


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the copies are computed from."""
    return {"bytes of the checkpoint, one fine-tuned copy": runs[0]["checkpoint"]}
