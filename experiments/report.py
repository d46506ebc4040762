"""Tables and pictures of the results that are there: `docs/experiments.md` and the pictures beside it.

Knows JSON files and matplotlib; runs nothing. The words around the tables are `docs/experiments.md`'s own: what stands
between two markers is written anew.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cells import BASES, INITS, LENGTHS, LOW, METHODS, WRITTEN, Cell, shown
from experiments.data import METRICS

Results = Sequence[tuple[Cell, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Value:
    """Mean and deviation over the seeds that are there."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        digits = 3 if max(self.values) <= 1.5 else 1
        spread = f" ± {stdev(self.values):.{digits}f}" if len(self.values) > 1 else ""
        return f"{mean(self.values):.{digits}f}{spread}"


def load(folder: Path) -> Results:
    """Every result, in the order of their names."""
    found = []
    for file in sorted(folder.glob("*.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        found.append((Cell(**data["cell"]), data))
    return found


def metric_of(data: str) -> str:
    return "bleu" if data in WRITTEN else "accuracy"


def over_seeds(results: Results, key: Callable[[Cell], Any], metric: str) -> dict[Any, Value]:
    """Of the test rows."""
    found: dict[Any, list[float]] = defaultdict(list)
    for cell, data in results:
        if not data.get("diverged"):
            found[key(cell)].append(data["test"][metric])
    return {key: Value(tuple(values)) for key, values in found.items()}


def methods_table(results: Results) -> str:
    """Method by data set, with the share of numbers learnt; free text by all its metrics."""
    some = [(cell, data) for cell, data in results if cell.table == "methods"]
    names = list(dict.fromkeys(cell.data for cell, _ in some))
    shares = {cell.method: data["share"] for cell, data in some if not data.get("diverged")}
    lines = ["| method | learnt | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for method in METHODS:
        if method not in shares:
            continue
        cells = []
        for name in names:
            mine = [(cell, data) for cell, data in some if cell.data == name]  # each data set has metrics of its own
            value = over_seeds(mine, lambda cell: cell.method, metric_of(name)).get(method)
            cells.append("–" if value is None else str(value))
        lines.append(f"| {method} | {100 * shares[method]:.3g} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written_table(results: Results) -> str:
    """All metrics of the two data sets of free text."""
    some = [(cell, data) for cell, data in results if cell.table == "methods" and cell.data in WRITTEN]
    head = [f"{name} {metric}" for name in WRITTEN for metric in METRICS]
    lines = ["| method | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for method in METHODS:
        mine = [(cell, data) for cell, data in some if cell.method == method]
        if not mine:
            continue
        cells = []
        for name in WRITTEN:
            for metric in METRICS:
                value = over_seeds(mine, lambda cell: cell.data, metric).get(name)
                cells.append("–" if value is None else str(value))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def line_table(results: Results, table: str, of: Callable[[Cell], Any], columns: Sequence[Any]) -> str:
    """One row a data set and method, one column a length, init, size or number of rows."""
    some = [(cell, data) for cell, data in results if shown(cell, table)]
    rows = list(dict.fromkeys((cell.data, cell.method) for cell, _ in some))
    lines = ["| data, method | " + " | ".join(map(str, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
    for data, method in rows:
        mine = [(cell, found) for cell, found in some if (cell.data, cell.method) == (data, method)]
        values = over_seeds(mine, of, metric_of(data))
        cells = [str(values[column]) if column in values else "–" for column in columns]
        lines.append(f"| {data}, {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hard_table(results: Results) -> str:
    """What a search came to beside the instruction that it began with, on test rows, and what it reads like."""
    some = [(cell, data) for cell, data in results if cell.method == "hard"]
    lines = ["| data | as written | found | of the first seed |", "|---|---|---|---|"]
    for name in dict.fromkeys(cell.data for cell, _ in some):
        mine = [data for cell, data in some if cell.data == name]
        metric = metric_of(name)
        written, found = (Value(tuple(data[where][metric] for data in mine)) for where in ("began", "test"))
        instruction = " ".join(mine[0]["template"].partition("{")[0].replace("|", " ").split())
        lines.append(f"| {name} | {Value((mean(written.values),))} | {found} | {instruction} |")
    return "\n".join(lines)


AXES: dict[str, tuple[str, Callable[[Cell], Any], Sequence[Any]]] = {
    "lengths": ("pseudo-tokens", lambda cell: cell.length, LENGTHS),
    "inits": ("where rows begin", lambda cell: cell.init, INITS),
    "sizes": ("base", lambda cell: cell.base, BASES),
    "low_data": ("rows to learn from", lambda cell: cell.rows, LOW),
}


def picture(results: Results, table: str, file: Path) -> None:
    """A panel a data set, a line a method, bars for the deviation over seeds."""
    said, of, columns = AXES[table]
    some = [(cell, data) for cell, data in results if shown(cell, table)]
    names = list(dict.fromkeys(cell.data for cell, _ in some))
    with mpl.rc_context({"svg.hashsalt": "softprompt", "svg.fonttype": "none"}):
        figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
        for place, name in enumerate(names):
            _panel(
                figure.add_subplot(1, len(names), place + 1), [one for one in some if one[0].data == name], of, columns
            )
            figure.axes[place].set_title(name, fontsize=9)
            figure.axes[place].set_xlabel(said)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _panel(axes: Axes, some: Results, of: Callable[[Cell], Any], columns: Sequence[Any]) -> None:
    for method in dict.fromkeys(cell.method for cell, _ in some):
        mine = [one for one in some if one[0].method == method]
        metric = metric_of(some[0][0].data)
        values = over_seeds(mine, of, metric)
        there = [column for column in columns if column in values]
        heights = [mean(values[column].values) for column in there]
        errors = [stdev(values[column].values) if len(values[column].values) > 1 else 0.0 for column in there]
        axes.errorbar([columns.index(column) for column in there], heights, errors, marker="o", capsize=3, label=method)
        axes.set_ylabel(f"{metric} on test rows")
    axes.set_xticks(range(len(columns)), [str(column) for column in columns], fontsize=7)
    axes.legend(fontsize=6)
    axes.spines[["top", "right"]].set_visible(False)


def write(results: Results, page: Path) -> None:
    """Tables into the page between their markers, pictures into the folder of its name."""
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    text = page.read_text(encoding="utf-8")
    parts = {"methods": methods_table(results), "written": written_table(results), "hard": hard_table(results)}
    for table, (_, of, columns) in AXES.items():
        if any(cell.table == table for cell, _ in results):
            parts[table] = line_table(results, table, of, columns)
            picture(results, table, folder / f"{table}.svg")
    for name, table in parts.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")
