"""Several methods, lengths and seeds on one data set: what each reaches, and what it costs.

Cells of one method learn together in one sweep; what writes text searches by itself; full fine-tuning, which spends its
base, learns on a fresh one for each seed. Knows settings and examples; no command line and no pictures.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from prompt_store.prompt import PromptFile
from tuning.base import FrozenBase
from tuning.examples import Example
from tuning.learn import Settings, Sweep, Tuning, without_slots
from tuning.methods import METHODS, MethodName
from tuning.plan import Event
from tuning.text import TEXT_METHODS, TextName, TextSettings, TextTask

AnyMethod = MethodName | TextName
ALL: tuple[AnyMethod, ...] = ("design", "hard", *METHODS)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `length` is that of its prompt, 0 for text and for yardsticks."""

    method: AnyMethod
    length: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.length}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a cell came to: held-out figures, numbers learnt and their share of the base's, bytes of a file.

    `seconds` is its part of the sweep that it learnt in; `file` None for a yardstick.
    """

    cell: Cell
    figures: dict[str, float]
    learnt: int
    share: float
    bytes: int
    seconds: float
    curve: list[dict[str, Any]]
    file: PromptFile | None
    report: dict[str, Any]


@dataclass(slots=True)
class Comparison:
    """Iterate `events`, then read `results`. `fresh` gives a base of its own to what changes one."""

    base: FrozenBase
    fresh: Callable[[], FrozenBase]
    settings: Settings
    text: TextSettings
    methods: Sequence[AnyMethod]
    lengths: Sequence[int]
    seeds: Sequence[int]
    train: Sequence[Example]
    held_out: Sequence[Example]
    rates: dict[str, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def events(self, folder: Path, resume: bool = False, save_seconds: float = 60.0) -> Iterator[tuple[str, Any]]:
        """(method, event) of each method in turn; checkpoints lie in `folder`. A cell that diverges has no result."""
        for method in self.methods:
            if method in TEXT_METHODS:
                for seed in self.seeds:
                    yield from ((method, event) for event in self._search(method, seed))
            elif method == "fine_tuning":
                for seed in self.seeds:
                    one = [Cell(method, 0, seed)]
                    yield from ((method, e) for e in self._learn(self.fresh(), one, folder, resume, save_seconds))
            else:
                kind = METHODS[method].kind  # type: ignore[index]  # the names of text methods are gone
                lengths = self.lengths if kind is not None else [0]
                cells = [Cell(method, length, seed) for length in lengths for seed in self.seeds]
                yield from ((method, e) for e in self._learn(self.base, cells, folder, resume, save_seconds))

    def _learn(
        self, base: FrozenBase, cells: Sequence[Cell], folder: Path, resume: bool, save_seconds: float
    ) -> Iterator[Event]:
        tunings = [Tuning(base, self._told(cell), self.train, self.held_out, cell.name) for cell in cells]
        began = time.monotonic()
        checkpoint = folder / f"{cells[0].name}-and-{len(cells) - 1}-more.checkpoint.safetensors"
        yield from Sweep(base, tunings).events(checkpoint, resume, save_seconds)
        seconds = (time.monotonic() - began) / len(cells)
        for cell, one in zip(cells, tunings, strict=True):
            if one.run.progress.diverged:
                continue
            file = one.prompt_file() if METHODS[cell.method].kind is not None else None  # type: ignore[index]
            size = len(file.data) if file is not None else 4 * one.learnt
            report = one.report()
            self.results.append(
                Result(
                    cell,
                    one.best_figures,
                    one.learnt,
                    report["learnt_share"],
                    size,
                    seconds,
                    report["curve"],
                    file,
                    report,
                )
            )

    def _told(self, cell: Cell) -> Settings:
        method: Any = cell.method
        rate = self.rates.get(method, METHODS[method].rate)
        plan = replace(self.settings.plan, seed=cell.seed, learning_rate=rate)
        template = self.settings.template
        length = cell.length
        if METHODS[method].kind == "embeddings" and length != self.settings.length:
            template = without_slots(template)  # all rows in front: slots have a length of their own
        return replace(self.settings, method=method, plan=plan, length=length, template=template)

    def _search(self, method: Any, seed: int) -> Iterator[Any]:
        began = time.monotonic()
        task = TextTask(self.base, method, self.settings, self.text, self.train, self.held_out, seed)
        yield from task.events()
        file = task.prompt_file()
        cell = Cell(method, 0, seed)
        seconds = time.monotonic() - began
        self.results.append(
            Result(cell, task.figures, 0, 0.0, len(file.data), seconds, task.curve, file, task.report())
        )

    @property
    def best(self) -> Result | None:
        """Of those that can be served, by the metric; the smaller of two equal ones."""
        served = [one for one in self.results if one.file is not None]
        metric = self.settings.metric
        return max(served, key=lambda one: (one.figures[metric], -one.bytes)) if served else None

    def table(self) -> list[dict[str, Any]]:
        """A row for each method and length: mean and standard deviation over seeds, and the cost."""
        rows: dict[tuple[str, int], list[Result]] = {}
        for one in self.results:
            rows.setdefault((one.cell.method, one.cell.length), []).append(one)
        return [
            {
                "method": method,
                "length": length,
                "seeds": len(some),
                **{f"{name}": mean(one.figures[name] for one in some) for name in some[0].figures},
                "deviation": stdev([one.figures[self.settings.metric] for one in some]) if len(some) > 1 else None,
                "learnt": some[0].learnt,
                "share": some[0].share,
                "bytes": some[0].bytes,
                "seconds": mean(one.seconds for one in some),
            }
            for (method, length), some in rows.items()
        ]
