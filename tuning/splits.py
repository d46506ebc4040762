"""Which row of every data set trains and which is scored, fixed once for base training and tuning alike.

Official parts where a data set has them, else sha256(text) mod 10 = 0 is test. A train row that repeats a test text of
*any* data set, word for word, is dropped: movie sentences, books and dialogue turns recur across these sets.
Knows nothing of models, tokens or tasks.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tuning.datasets import DATA_SETS, DataSet, Part, Row

WINDOW = 8
"""Words. A test text this long is searched for *inside* train texts; a shorter one must be a whole line to count."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of one data set in file order; `dropped` counts train rows that repeated a test text."""

    train: list[Row]
    test: list[Row]
    dropped: int


def words(text: str) -> tuple[str, ...]:
    """Case, punctuation and spacing do not make a text another text."""
    return tuple(re.findall(r"\w+", text.lower()))


def part_of(text: str) -> Part:
    """The part of a text that no official split places."""
    return "test" if int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10 == 0 else "train"


class TestTexts:
    """Finds test texts in other texts. `exact` holds short ones whole, `opening` long ones by their first words."""

    __test__ = False  # not a pytest class

    def __init__(self, texts: Iterable[str]) -> None:
        self._exact: set[tuple[str, ...]] = set()
        self._opening: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for text in texts:
            found = words(text)
            if len(found) >= WINDOW:
                self._opening.setdefault(found[:WINDOW], set()).add(found)
            elif found:
                self._exact.add(found)

    def repeated_in(self, line: str) -> bool:
        """True when the line is a test text or contains one of at least `WINDOW` words."""
        found = words(line)
        if found in self._exact:
            return True
        return any(
            found[start : start + len(test)] == test
            for start in range(len(found) - WINDOW + 1)
            for test in self._opening.get(found[start : start + WINDOW], ())
        )


def _parts(data: DataSet, root: Path) -> Iterator[tuple[Part, Row]]:
    for official, row in data.read(root):
        yield official or part_of(row[data.split_by]), row


def paragraphs(text: str) -> list[str]:
    """The pieces a corpus text is compared by: blank-line paragraphs, and lines within dialogues and articles."""
    return [piece for piece in re.split(r"\n\s*\n|\n(?=(?:User|System): )", text) if piece.strip()]


def _spoken(piece: str) -> str:
    return re.sub(r"^(?:User|System): ", "", piece)


@cache
def test_texts(root: Path) -> TestTexts:
    """Every test text of every data set, corpora paragraph by paragraph. Dialogues repeat what `sgd` already holds."""

    def texts() -> Iterator[str]:
        for name, data in DATA_SETS.items():
            if name == "sgd_dialogues":
                continue
            for part, row in _parts(data, root):
                if part == "test":
                    for field in data.texts:
                        yield from paragraphs(row[field]) if data.corpus else [row[field]]

    return TestTexts(texts())


def without_repeats(text: str, tests: TestTexts) -> str:
    """A corpus text less the paragraphs or turns that repeat a test text."""
    pieces = re.split(r"(\n\s*\n|\n(?=(?:User|System): ))", text)
    kept = [
        piece + gap
        for piece, gap in zip(pieces[::2], [*pieces[1::2], ""], strict=True)
        if not tests.repeated_in(_spoken(piece))
    ]
    return "".join(kept).strip()


def _train_row(data: DataSet, row: Row, tests: TestTexts) -> Row | None:
    if data.corpus:
        text = without_repeats(row["text"], tests)
        return {**row, "text": text} if text else None
    return None if any(tests.repeated_in(row[field]) for field in data.texts) else row


@cache
def split(root: Path, name: str) -> Split:
    """The train and test rows of one data set below `root` (the folder that holds all of them).

    Raises KeyError for an unknown name and FileNotFoundError where the data set is not at hand.
    """
    data = DATA_SETS[name]
    tests = test_texts(root)
    train: list[Row] = []
    scored: list[Row] = []
    dropped = 0
    for part, row in _parts(data, root):
        if part == "test":
            scored.append(row)
        elif kept := _train_row(data, row, tests):
            train.append(kept)
        else:
            dropped += 1
    return Split(train, scored, dropped)
