"""The table of README.md as data: each abuse, what may be answered, and the test that shows it.

Knows the table's form; no server.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

README = Path(__file__).parent / "README.md"
LINE = re.compile(r"^\| ([A-Z])(\d{2}) \| (.+) \| (.+) \| `(\w+\.py)` \|$", re.MULTILINE)
ANSWER = re.compile(r"\b([1-5]\d{2})\b(?: `([a-z_]+)`)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One abuse. `answers`: status and error code, which a success has none of."""

    id: str
    abuse: str
    answers: frozenset[tuple[int, str]]
    file: str


@cache
def rows() -> dict[str, Row]:
    """By id."""
    found = LINE.findall(README.read_text(encoding="utf-8"))
    ids = [letter + number for letter, number, *_ in found]
    assert len(ids) == len(set(ids)), "a row stands there twice"
    return {
        letter + number: Row(letter + number, abuse, frozenset(answers(told)), file)
        for letter, number, abuse, told, file in found
    }


def answers(told: str) -> list[tuple[int, str]]:
    """Every status in a cell, with the code behind it."""
    return [(int(status), code) for status, code in ANSWER.findall(told)]
