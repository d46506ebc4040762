"""What the page's fragments show, from tasks, versions and jobs: plain values that a template only has to place.

Knows our objects and how people read them; no HTTP, no HTML.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prompt_store.task import Task
from prompt_store.template import Template

UNITS = ("bytes", "KiB", "MiB", "GiB")
CELL_WIDTH, CELL_HEIGHT, GUTTER = 104, 22, 34
"""Of the picture of nearest tokens, in its own units."""
NAMED = {" ": "␣", "\n": "⏎", "\t": "⇥"}
SHOWN = 12
"""Characters of a token in a cell."""


def size(count: int) -> str:
    """1536 as `1.5 KiB`."""
    value = float(count)
    for unit in UNITS[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == UNITS[0] else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {UNITS[-1]}"


def moment(seconds: float | None) -> str:
    """A time of the log's kind, in UTC, to the second."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def figure(value: float) -> str:
    return f"{value:.4g}"


def visible(text: str) -> str:
    """A token's text with what cannot be seen made visible: control characters as their number."""
    return "".join(_named(character) for character in text) or "∅"


def _named(character: str) -> str:
    if unicodedata.category(character)[0] not in "CZ":
        return character
    return NAMED.get(character, f"‹{ord(character):X}›")


def fields_of(task: Task) -> list[str]:
    """The names that its template asks for, in order."""
    metadata = task.metadata
    if metadata is None:
        return []
    return list(Template.parse(metadata.template, metadata.kind, metadata.length).fields)


def runnable(versions: Sequence[Task]) -> list[Task]:
    """Those with content: a tombstone has none."""
    return [version for version in versions if version.digest is not None]


@dataclass(frozen=True, slots=True)
class Cell:
    """One token that one pseudo-token is near to. `strength`: 0 to 1, the picture's largest cosine is 1."""

    x: int
    y: int
    text: str
    short: str
    cosine: float
    strength: float


@dataclass(frozen=True, slots=True)
class Picture:
    """Pseudo-tokens downwards, their nearest tokens to the right, nearest first."""

    width: int
    height: int
    rows: list[list[Cell]]


def picture(rows: Sequence[Sequence[tuple[str, float]]]) -> Picture:
    """Of texts and cosines, a row for each pseudo-token."""
    largest = max((abs(cosine) for row in rows for _, cosine in row), default=0.0) or 1.0
    placed = [
        [
            Cell(
                GUTTER + place * CELL_WIDTH,
                number * CELL_HEIGHT,
                text,
                visible(text)[:SHOWN],
                cosine,
                max(cosine, 0.0) / largest,
            )
            for place, (text, cosine) in enumerate(row)
        ]
        for number, row in enumerate(rows)
    ]
    return Picture(GUTTER + max(map(len, rows), default=0) * CELL_WIDTH, len(rows) * CELL_HEIGHT, placed)
