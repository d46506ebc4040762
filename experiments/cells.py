"""Which runs reproduce the source text's results: a cell is one method on one data set with one seed.

Knows names and numbers; no tensors. Cells of one group learn together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

SEEDS = (0, 1, 2)
LENGTH = 20
ROWS = 2000
BASE = "8m"
LABELLED = ("snips", "clinc150", "sentiment")
WRITTEN = ("e2e_nlg", "dart")
LEARNT = ("prompt_tuning", "p_tuning", "prefix_tuning", "llama_adapter", "lora", "bottleneck_0.1", "bottleneck_3")
METHODS = ("design", "hard", *LEARNT, "fine_tuning")
LENGTHS = (1, 2, 5, 10, 20, 50, 100)
INITS = ("random", "vocabulary", "text", "labels")
LOW = (50, 100, 200, 500)
DEEP = ("prompt_tuning", "prefix_tuning")
ENDS = ("design", "prompt_tuning", "fine_tuning")
SIZED = ("snips", "clinc150", "e2e_nlg")
BASES = ("0.3m", "2m", BASE)


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One run. `rows`: how many of the training part; `init` "" is the method's own."""

    table: str
    data: str
    base: str
    method: str
    rows: int = ROWS
    length: int = LENGTH
    init: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its file."""
        parts = [
            self.table,
            self.data,
            self.base,
            self.method,
            f"{self.rows}",
            f"{self.length}",
            self.init,
            f"{self.seed}",
        ]
        return "-".join(part for part in parts if part)

    @property
    def group(self) -> tuple[str, ...]:
        """What learns together: full fine-tuning and searches do not."""
        alone = (str(self.seed), str(self.rows)) if self.method in {"design", "hard", "fine_tuning"} else ()
        return (self.table, self.data, self.base, self.method, *alone)


def _methods() -> Iterator[Cell]:
    for data, method, seed in product((*LABELLED, *WRITTEN), METHODS, SEEDS):
        yield Cell("methods", data, BASE, method, seed=seed)


def _lengths() -> Iterator[Cell]:
    for data, method, length, seed in product(("snips", "e2e_nlg"), DEEP, LENGTHS, SEEDS):
        yield Cell("lengths", data, BASE, method, length=length, seed=seed)


def _inits() -> Iterator[Cell]:
    for data, init, seed in product(("snips", "clinc150"), INITS, SEEDS):
        yield Cell("inits", data, BASE, "prompt_tuning", init=init, seed=seed)


def _sizes() -> Iterator[Cell]:
    for data, base, method, seed in product(SIZED, BASES, ENDS, SEEDS):
        if base != BASE:  # those are among the methods
            yield Cell("sizes", data, base, method, seed=seed)


def _low_data() -> Iterator[Cell]:
    for data, method, rows, seed in product(("snips", "e2e_nlg"), (*DEEP, "fine_tuning"), LOW, SEEDS):
        yield Cell("low_data", data, BASE, method, rows=rows, seed=seed)


def _hard() -> Iterator[Cell]:
    for seed in SEEDS:
        yield Cell("hard", "subjectivity", BASE, "hard", seed=seed)  # the other data sets' are among the methods


def shown(cell: Cell, table: str) -> bool:
    """Whether a table has this cell: its own, and where the base's size is compared those of the methods."""
    among = cell.table == "methods" and cell.data in SIZED and cell.method in ENDS
    return cell.table == table or (table == "sizes" and among)


TABLES: Mapping[str, Callable[[], Iterator[Cell]]] = {
    "methods": _methods,
    "lengths": _lengths,
    "inits": _inits,
    "sizes": _sizes,
    "low_data": _low_data,
    "hard": _hard,
}


def cells(tables: Sequence[str] = tuple(TABLES)) -> Iterator[Cell]:
    """All of some tables."""
    for table in tables:
        yield from TABLES[table]()


def groups(some: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that learn together, in the order of their tables."""
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in some:
        found.setdefault(cell.group, []).append(cell)
    return list(found.values())


SECONDS: Mapping[str, tuple[float, float]] = {"labelled": (22.0, 10.0), "written": (90.0, 50.0)}
"""Of one run of 300 steps on one core, and of its evaluations: about what 250 recorded cells took, for the estimate."""


def estimate(some: Sequence[Cell]) -> float:
    """CPU-hours, roughly: half of it on two cores."""
    seconds = 0.0
    for cell in some:
        learning, judging = SECONDS["written" if cell.data in WRITTEN else "labelled"]
        size = {"0.3m": 0.15, "2m": 0.4, BASE: 1.0}[cell.base]
        times = 0.0 if cell.method == "design" else 2.0 if cell.method == "hard" else 1.0 + cell.length / 100
        seconds += size * (learning * times + judging * (6 if cell.method == "design" else 1))
    return seconds / 3600
