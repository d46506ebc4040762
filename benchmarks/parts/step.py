"""Where a decode step's time goes, beside its floor: the matrix products alone, without anything between them.

The engine's own loop, driven by hand, with clocks around what it calls; the clocks cost some 0.1 ms a step.
"""

import argparse
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.order import Launch, Order
from benchmarks.report import Chart, charted, gathered
from benchmarks.stepping import STEPS, decoding, seconds_of
from benchmarks.workload import workload
from server.engine import runner
from server.engine.model import BaseModel
from server.engine.native.binding import NativeKernels, kernels
from server.engine.packing import Packed, PackedLinear
from server.engine.progress import Progress
from server.engine.quantized import Int8Linear
from server.engine.scheduler import Scheduler

REPEATS = 3
FORMS: Mapping[str, Mapping[str, Any]] = {
    "bfloat16": {},
    "8 bits": {"weights": "int8"},
    "bfloat16, torch's operators": {"native": False},
}
WHOLE, FLOOR = "the whole step", "floor: its products alone"
CLOCKS: Mapping[str, tuple[tuple[object, str], ...]] = {
    "products": ((PackedLinear, "forward"), (PackedLinear, "plus"), (Int8Linear, "forward"), (Int8Linear, "plus")),
    "attention": ((NativeKernels, "attend"),),
    "norms, rotary positions, gates": ((NativeKernels, "norm"), (NativeKernels, "rotate"), (NativeKernels, "gate")),
    "the best id": ((NativeKernels, "best"),),
    "around the pass: who runs, its batch, events": (
        (Scheduler, "schedule"),
        (runner, "build"),
        (Progress, "apply"),
    ),
}
REST = "all else: the model's Python and torch's small operators"


@dataclass(frozen=True, slots=True)
class Plan:
    """One of `FORMS`, with so many sequences decoding."""

    form: str
    concurrency: Sequence[int]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32, 64], help="requests in flight")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """A process for each form of the base that this machine has."""
    chosen, found = workload(tiny=given.tiny), kernels(torch.bfloat16, torch.device("cpu"))
    able = [form for form in FORMS if "weights" not in FORMS[form] or (isinstance(found, NativeKernels) and found.int8)]
    return [Launch(form, Order.of(given, chosen, Plan(form, given.concurrency)).to_json()) for form in able]


def measure(order: Order) -> dict[str, Any]:
    """Milliseconds of the median step, of its products alone, and of each clock; the base's bytes of products."""
    plan = Plan(**order.plan)
    base = BaseModel.load(Path(order.checkpoint), device="cpu", dtype="bfloat16", **FORMS[plan.form])
    points = [_point(base, order, concurrency) for concurrency in plan.concurrency]
    return {"form": plan.form, "points": points}


@torch.inference_mode()
def _point(base: BaseModel, order: Order, concurrency: int) -> dict[str, Any]:
    engine = decoding(base, order.workload, concurrency, order.threads)
    whole = [seconds_of(engine._advance) for _ in range(STEPS)]  # noqa: SLF001 - the loop, by hand
    with _clocks() as spent:
        for _ in range(STEPS):
            engine._advance()  # noqa: SLF001 - likewise
    parts = {name: 1e3 * seconds / STEPS for name, seconds in spent.items()}
    step, floor = 1e3 * median(whole), 1e3 * _floor(base, concurrency)
    return {"concurrency": concurrency, WHOLE: step, FLOOR: floor, **parts, REST: step - sum(parts.values())}


@contextmanager
def _clocks() -> Iterator[dict[str, float]]:
    """Seconds spent in each of `CLOCKS`, as long as this is open."""
    spent: dict[str, float] = defaultdict(float)
    kept = [(owner, name, getattr(owner, name)) for calls in CLOCKS.values() for owner, name in calls]
    for label, calls in CLOCKS.items():
        for owner, name in calls:
            setattr(owner, name, _clocked(getattr(owner, name), label, spent))
    try:
        yield spent
    finally:
        for owner, name, own in kept:
            setattr(owner, name, own)


def _clocked(own: Callable[..., Any], label: str, spent: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(own)
    def call(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        found = own(*given, **named)
        spent[label] += time.perf_counter() - began
        return found

    return call


def _floor(base: BaseModel, rows: int) -> float:
    """Seconds of all matrices of the base, once each in their order, on inputs of so many rows; the median of some."""
    matrices = _matrices(base)
    inputs = {width: torch.randn(1, rows, width).to(base.dtype) for width, _ in matrices}

    def products() -> None:
        for width, matrix in matrices:
            matrix(inputs[width])

    return median(seconds_of(products) for _ in range(STEPS))


def _matrices(base: BaseModel) -> list[tuple[int, Packed]]:
    """(inputs, matrix) of the base: those that share an input are one."""
    hidden, feed_forward = base.shape.hidden, int(base.config.intermediate_size)
    across = base.shape.heads * base.shape.head_dim
    found: list[tuple[int, Packed]] = []
    for layer in base.model.model.layers:  # type: ignore[union-attr]  # the workload's base is a Llama
        attention, mlp = layer.self_attn, layer.mlp
        found += [(hidden, attention.q_proj.together.whole), (across, attention.o_proj)]
        found += [(hidden, mlp.gate_proj.together.whole), (feed_forward, mlp.down_proj)]
    return [*found, (hidden, base.model.lm_head)]  # type: ignore[list-item]  # likewise


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A table for each form: the step, its floor, and what it is made of."""
    forms = dict.fromkeys(run["form"] for run in runs)
    return [_chart(form, [run for run in runs if run["form"] == form]) for form in forms]


def _chart(form: str, runs: Sequence[Mapping[str, Any]]) -> Chart:
    """Of each concurrency the process whose step was the best: parts of different ones do not make a whole."""
    steps: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for run in runs:
        for point in run["points"]:
            steps[point["concurrency"]].append(point)
    best = [min(points, key=lambda point: float(point[WHOLE])) for points in steps.values()]
    names = [name for name in (WHOLE, FLOOR, *CLOCKS, REST) if name in best[0]]
    found = gathered((name, f"{point['concurrency']}", point[name]) for name in names for point in best)
    return charted(
        f"milliseconds of a decode step, {form}",
        "sequences",
        found,
        best=min,
        ratio="share of the whole step",
        reference=lambda _, column: (WHOLE, column),
    )


def notes(_runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the last row comes about."""
    return {REST: "the whole step, measured without clocks, less what has a clock, in the process whose step was best"}
