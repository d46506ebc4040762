"""What measurements say: charts of the best of the repeats with their spread, as tables, JSON and a picture.

Knows numbers by row and column; runs nothing and knows no part.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Found = Mapping[str, Mapping[str, Sequence[float]]]
"""Row -> column -> what each repeat measured."""
Reference = Callable[[str, str], tuple[str, str]]
"""From a cell's row and column to those of the cell that it is compared with."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure: the best of its repeats, the least and the most of them, and how it compares."""

    best: float
    least: float
    most: float
    ratio: float | None

    def __str__(self) -> str:
        spread = "" if self.least == self.most else f" ({shown(self.least)}-{shown(self.most)})"
        return shown(self.best) + spread + ("" if self.ratio is None else f" x{shown(self.ratio)}")


@dataclass(frozen=True, slots=True)
class Chart:
    """`quantity` with its unit, `by` what the columns are, `ratio` what a cell's "x" says."""

    quantity: str
    by: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    ratio: str


def gathered(figures: Iterable[tuple[str, str, float]]) -> dict[str, dict[str, list[float]]]:
    """(row, column, value) of every repeat by row and column, in the order they come."""
    found: dict[str, dict[str, list[float]]] = {}
    for row, column, value in figures:
        found.setdefault(row, {}).setdefault(column, []).append(value)
    return found


def charted(  # noqa: PLR0913 - what a table says of itself
    quantity: str,
    by: str,
    found: Found,
    *,
    best: Callable[[Sequence[float]], float] = max,
    ratio: str = "",
    reference: Reference | None = None,
    inverted: bool = False,
) -> Chart:
    """A chart of what was found. A ratio is the cell over its reference, `inverted` the other way round."""
    bests = {(row, column): best(values) for row, line in found.items() for column, values in line.items()}

    def compared(row: str, column: str) -> float | None:
        other = None if reference is None else reference(row, column)
        if other is None or other == (row, column) or not bests.get(other) or not bests[row, column]:
            return None
        return bests[other] / bests[row, column] if inverted else bests[row, column] / bests[other]

    rows = {
        row: {
            column: Cell(bests[row, column], min(values), max(values), compared(row, column))
            for column, values in line.items()
        }
        for row, line in found.items()
    }
    columns = tuple(dict.fromkeys(column for line in found.values() for column in line))
    return Chart(quantity, by, columns, rows, ratio)


def shown(value: float) -> str:
    """Three digits, or all of those before the point."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 2
    return f"{value:,.{max(digits, 0)}f}"


def table(chart: Chart) -> str:
    """Markdown: a row per thing measured; in brackets the spread of the repeats, behind "x" the ratio."""
    head = f"| {chart.quantity}, by {chart.by} | " + " | ".join(chart.columns) + " |"
    lines = [head, "|---" * (len(chart.columns) + 1) + "|"]
    for row, line in chart.rows.items():
        cells = [str(line[column]) if column in line else "-" for column in chart.columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *(["", f"x: {chart.ratio}."] if chart.ratio else [])]) + "\n"


def figures(charts: Sequence[Chart]) -> dict[str, Any]:
    """The charts as JSON: quantity -> row -> column -> best, least, most and ratio."""
    return {
        chart.quantity: {
            row: {
                column: {"best": cell.best, "least": cell.least, "most": cell.most, "ratio": cell.ratio}
                for column, cell in line.items()
            }
            for row, line in chart.rows.items()
        }
        for chart in charts
    }


def caption(machine: Mapping[str, Any]) -> str:
    """Where and how the figures of a table were measured."""
    versions = ", ".join(f"{package} {machine[package]}" for package in ("torch", "transformers", "peft"))
    inherited = "an LD_PRELOAD for all" if machine["preloaded"] else "no LD_PRELOAD for all"
    return (
        f"`{machine['command']}` at commit {machine['commit']}; {machine['cpu']}, {machine['threads']} threads, "
        f"{inherited}; {versions}.\n"
    )


def picture(charts: Sequence[Chart], file: Path) -> None:
    """SVG: per chart groups of bars, one group per column; a line on each bar from the least repeat to the most."""
    with mpl.rc_context({"svg.hashsalt": "softprompt", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 4 * len(charts)), layout="constrained")
        for index, chart in enumerate(charts):
            _bars(chart, figure.add_subplot(len(charts), 1, index + 1))
        figure.savefig(file, format="svg", metadata={"Date": None})


def _bars(chart: Chart, axes: Axes) -> None:
    width = 0.8 / max(len(chart.rows), 1)
    for index, (row, line) in enumerate(chart.rows.items()):
        measured = [(place, line[column]) for place, column in enumerate(chart.columns) if column in line]
        places = [place + (index - (len(chart.rows) - 1) / 2) * width for place, _ in measured]
        heights = [cell.best for _, cell in measured]
        spread = [[cell.best - cell.least for _, cell in measured], [cell.most - cell.best for _, cell in measured]]
        bars = axes.bar(places, heights, width, label=row, yerr=spread, ecolor="0.4")
        axes.bar_label(bars, [shown(height) for height in heights], fontsize=6)
    axes.set_xticks(range(len(chart.columns)), list(chart.columns))
    axes.set_xlabel(chart.by)
    axes.set_ylabel(chart.quantity)
    axes.legend(fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def write(whole: Mapping[str, Any], charts: Sequence[Chart], folder: Path, name: str) -> None:
    """`name`.json, `name`.md and `name`.svg in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {**whole, "figures": figures(charts)}
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page(whole, charts), encoding="utf-8")
    picture(charts, folder / f"{name}.svg")


def page(whole: Mapping[str, Any], charts: Sequence[Chart]) -> str:
    """Every table, what is to be said besides, and where it was measured."""
    notes = "".join(f"- {name}: {said}\n" for name, said in whole["notes"].items() if said not in ({}, []))
    return "\n".join([*map(table, charts), *([notes] if notes else []), caption(whole["machine"])])
