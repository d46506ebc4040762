"""Several methods, lengths and seeds on one data set: what each reaches, and what it costs.

Cells of one method learn together in one sweep; what writes text searches by itself; full fine-tuning, which spends its
base, learns on a fresh one for each seed. Knows settings and examples; no command line and no pictures.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from prompt_store.prompt import PromptFile
from tuning.base import FrozenBase
from tuning.encoding import Encodings
from tuning.examples import Example
from tuning.hard import Round
from tuning.learn import Settings, Sweep, Tuning, without_slots
from tuning.methods import METHODS, MethodName
from tuning.metrics import rank
from tuning.plan import DivergedError, Event
from tuning.text import TEXT_METHODS, TextName, TextSettings, TextTask

AnyMethod = MethodName | TextName
ALL: tuple[AnyMethod, ...] = ("design", "hard", *METHODS)
ALONE = frozenset({*TEXT_METHODS, "fine_tuning"})
"""Runs of these share no pass with another's."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `length` is that of its prompt, 0 for text and for yardsticks."""

    method: AnyMethod
    length: int
    seed: int

    @property
    def name(self) -> str:
        """Among those that learn together."""
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
    """Iterate `events`, then read `results`. `fresh` gives a base of its own to what changes one.

    `rate`: for all methods, instead of each one's own.
    """

    base: FrozenBase
    fresh: Callable[[], FrozenBase]
    settings: Settings
    text: TextSettings
    methods: Sequence[AnyMethod]
    lengths: Sequence[int]
    seeds: Sequence[int]
    train: Sequence[Example]
    held_out: Sequence[Example]
    rate: float | None = None
    results: list[Result] = field(default_factory=list)
    diverged: list[Cell] = field(default_factory=list)
    _ready: dict[str, list[Tuning]] | None = None

    def prepare(self) -> list[PromptFile]:
        """Encodes and begins what learns; the files as they are before the first step, to see whether they would do.

        Raises ValueError, DataError and PromptError for what the base cannot hold.
        """
        self._ready = {
            group[0].method: self._tunings(self.base, group) for group in self._all if group[0].method not in ALONE
        }
        begun = [one for some in self._ready.values() for one in some]
        return [one.draft() for one in begun if one.served]

    def events(
        self, checkpoint: Callable[[str], Path], resume: bool = False, save_seconds: float = 60.0
    ) -> Iterator[Event | Round]:
        """Of each method in turn. `checkpoint`: where that of a name lies, "" where there is only one.

        A run that diverges has no result. What the base cannot hold is said before anything is learnt.
        """
        if self._ready is None:
            self.prepare()
        ready = self._ready or {}
        for group in self._all:
            method, first = group[0].method, group[0]
            if method in TEXT_METHODS:
                yield from self._search(first, checkpoint(self._name(group)), resume, save_seconds)
            else:
                base = self.fresh() if method == "fine_tuning" else self.base
                tunings = ready.pop(method, None) or self._tunings(base, group)
                yield from self._learn(Sweep(base, tunings), group, checkpoint(self._name(group)), resume, save_seconds)

    @property
    def checkpoints(self) -> list[str]:
        """The names that `events` may ask places for."""
        return [self._name(group) for group in self._all]

    @property
    def cells(self) -> list[Cell]:
        """All there are, in the order in which they learn."""
        return [cell for group in self._all for cell in group]

    def _name(self, group: Sequence[Cell]) -> str:
        method, alone = group[0].method, len(self._all) == 1
        return "" if alone else f".{method}" + (f"-{group[0].seed}" if method in ALONE else "")

    @property
    def _all(self) -> list[list[Cell]]:
        return [group for method in self.methods for group in self._groups(method)]

    def _groups(self, method: AnyMethod) -> list[list[Cell]]:
        """What learns together."""
        if method in ALONE:
            return [[Cell(method, 0, seed)] for seed in self.seeds]
        lengths = self.lengths if METHODS[method].kind is not None else [0]  # type: ignore[index]  # no text here
        return [[Cell(method, length, seed) for length in lengths for seed in self.seeds]]

    def _tunings(self, base: FrozenBase, cells: Sequence[Cell]) -> list[Tuning]:
        encodings = Encodings()
        return [Tuning(base, self._told(cell), self.train, self.held_out, cell.name, encodings) for cell in cells]

    def _learn(
        self, sweep: Sweep, cells: Sequence[Cell], checkpoint: Path, resume: bool, save_seconds: float
    ) -> Iterator[Event]:
        yield from sweep.events(checkpoint, resume, save_seconds)
        for cell, one in zip(cells, sweep.tunings, strict=True):
            if one.run.progress.diverged:
                self.diverged.append(cell)
                continue
            file = one.prompt_file() if METHODS[cell.method].kind is not None else None  # type: ignore[index]
            size = len(file.data) if file is not None else 4 * one.learnt
            report = one.report()
            share, curve, seconds = report["learnt_share"], report["curve"], one.run.progress.seconds
            self.results.append(Result(cell, one.best_figures, one.learnt, share, size, seconds, curve, file, report))

    def _told(self, cell: Cell) -> Settings:
        method: Any = cell.method
        plan = replace(
            self.settings.plan,
            seed=cell.seed,
            learning_rate=self.rate or METHODS[method].rate_for(self.settings.options),
        )
        template = self.settings.template
        length = cell.length
        if METHODS[method].kind == "embeddings" and length != self.settings.length:
            template = without_slots(template)  # all rows in front: slots have a length of their own
        return replace(self.settings, method=method, plan=plan, length=length, template=template)

    def _search(self, cell: Cell, checkpoint: Path, resume: bool, save_seconds: float) -> Iterator[Event | Round]:
        method: Any = cell.method
        task = TextTask(self.base, method, self.settings, self.text, self.train, self.held_out, cell.seed)
        for event in task.events(checkpoint, resume, save_seconds):
            yield replace(event, run=cell.name)
        file = task.prompt_file()
        report = {**task.report(), **self._counts}
        size = len(file.data)
        self.results.append(Result(cell, task.figures, 0, 0.0, size, task.seconds, task.curve, file, report))

    @property
    def _counts(self) -> dict[str, int]:
        return {"train_rows": len(self.train), "held_out_rows": len(self.held_out)}

    def chosen(self) -> Result:
        """The best by the metric of those that can be served, else of all; of equal ones by the loss, then the smaller.

        Raises DivergedError where nothing came to an end.
        """
        if not self.results:
            raise DivergedError("the loss is not finite: a lower learning rate may help")
        served = [one for one in self.results if one.file is not None] or self.results
        metric = self.settings.metric
        return max(
            served, key=lambda one: (rank(metric, one.figures[metric]), -round(one.figures["loss"], 4), -one.bytes)
        )

    def report(self) -> dict[str, Any]:
        """JSON: the best run's own report, a table of all, and each with its curve."""
        return {
            **self.chosen().report,
            "table": self.table(),
            "diverged": [cell.name for cell in self.diverged],
            "runs": [
                {**asdict(one.cell), "figures": one.figures, "seconds": one.seconds, "curve": one.curve}
                for one in self.results
            ],
        }

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
