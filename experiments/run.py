"""Run cells: those that have no result yet, group by group; a killed run goes on where its group's checkpoint is.

Knows methods and files; what is compared with what is `cells`' matter.
"""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experiments.cells import LENGTH, Cell
from experiments.data import SUBJECTS, Rows, rows
from prompt_store.durable import replace_file
from tuning.base import FrozenBase
from tuning.encoding import Encodings
from tuning.hard import Budget
from tuning.initial import Init
from tuning.learn import Settings, Sweep, Tuning
from tuning.methods import METHODS, MethodName, Options
from tuning.plan import Event, Plan, Precision
from tuning.text import TextName, TextSettings, TextTask

STEPS, BATCH_SIZE, EVERY = 300, 16, 75
SHARES = {"bottleneck_0.1": 0.001, "bottleneck_3": 0.03}
"""Numbers learnt, as a share of the base's."""
SEARCH = Budget(scored=12_000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where data sets are, results go and checkpoints lie; `load` gives a base of a size, a new one each time."""

    data: Path
    results: Path
    scratch: Path
    load: Callable[[str], FrozenBase]
    precision: Precision = "bfloat16"

    def file(self, cell: Cell) -> Path:
        return self.results / f"{cell.name}.json"


def run(group: Sequence[Cell], place: Place) -> Iterator[Event]:
    """All cells of a group that have no result yet; each writes its own."""
    left = [cell for cell in group if not place.file(cell).exists()]
    if not left:
        return
    first = left[0]
    base = place.load(first.base)
    if first.method in {"design", "hard"}:
        for cell in left:
            _write(cell, place, _text(base, cell, place))
        return
    found = {cell.rows: rows(place.data, cell.data, cell.rows) for cell in left}
    encodings = Encodings()
    tunings = [_tuning(base, cell, found[cell.rows], place.precision, encodings) for cell in left]
    checkpoint = place.scratch / f"{'-'.join(first.group)}.checkpoint.safetensors"
    yield from Sweep(base, tunings).events(checkpoint, resume=True)
    for cell, one in zip(left, tunings, strict=True):
        learnt = {"diverged": True} if one.run.progress.diverged else _judged(cell, one, found[cell.rows])
        _write(cell, place, {**learnt, "seconds": one.run.progress.seconds})
    checkpoint.unlink()


def _judged(cell: Cell, one: Tuning, some: Rows) -> dict[str, Any]:
    return {
        "test": one.measure(some.test, SUBJECTS[cell.data].metrics),
        "held_out": one.best_figures,
        "learnt": one.learnt,
        "share": one.report()["learnt_share"],
        "best_step": one.run.progress.best_step,
    }


def _tuning(base: FrozenBase, cell: Cell, some: Rows, precision: Precision, encodings: Encodings) -> Tuning:
    method: MethodName = "bottleneck_adapter" if cell.method in SHARES else cell.method  # type: ignore[assignment]
    settings = _settings(base, cell, precision)
    return Tuning(base, replace(settings, method=method), some.train, some.held_out, cell.name, encodings)


def _settings(base: FrozenBase, cell: Cell, precision: Precision) -> Settings:
    subject = SUBJECTS[cell.data]
    labels = subject.recipe.labels
    told = METHODS["bottleneck_adapter" if cell.method in SHARES else cell.method]  # type: ignore[index]
    init: Init = cell.init or ("labels" if labels else "vocabulary")  # type: ignore[assignment]
    units = round(SHARES.get(cell.method, 0) * base.parameters / (4 * base.base.layers * base.base.hidden))
    options = Options(init, subject.instructions, units=max(units, 1))
    plan = Plan(
        "labels" if labels else "lm", STEPS, BATCH_SIZE, told.rate_for(options), 20, EVERY, 10, cell.seed, precision
    )
    return Settings(
        subject.template,
        plan,
        labels=labels,
        length=cell.length if told.kind is not None else LENGTH,
        options=options,
        metric="accuracy" if labels else "bleu",
        max_new_tokens=64,
    )


def _text(base: FrozenBase, cell: Cell, place: Place) -> dict[str, Any]:
    subject, some = SUBJECTS[cell.data], rows(place.data, cell.data, cell.rows)
    labels, method = subject.recipe.labels, cell.method
    plan = Plan("labels" if labels else "lm", seed=cell.seed)
    settings = Settings(
        subject.template, plan, labels=labels, metric="accuracy" if labels else "bleu", max_new_tokens=64
    )
    told = TextSettings(subject.instructions, shots=len(labels) if labels else 3, draws=6, budget=SEARCH)
    name: TextName = "hard" if method == "hard" else "design"
    task = TextTask(base, name, settings, told, some.train, some.held_out, cell.seed)
    checkpoint = place.scratch / f"{cell.name}.checkpoint.safetensors"
    for _ in task.events(checkpoint, resume=True):
        pass
    checkpoint.unlink(missing_ok=True)
    test = task.measure(some.test, subject.metrics).named
    found = {"test": test, "held_out": task.figures, "learnt": 0, "share": 0.0, "template": task.template}
    if method == "hard":
        found["began"] = task.measure(some.test, subject.metrics, f"{subject.instructions} {subject.template}").named
    return {**found, "seconds": task.seconds}


def _write(cell: Cell, place: Place, found: dict[str, Any]) -> None:
    """Whole or not at all."""
    data = {"cell": asdict(cell), "cpu": platform.machine(), "steps": STEPS, "batch_size": BATCH_SIZE, **found}
    told = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    replace_file(place.file(cell), f"{told}\n".encode())
