"""What the base reads: whole documents, and exercises made of one text alone."""

import random
import re
from pathlib import Path

import pytest

from pretraining.stream import copied, copy_exercise, documents
from tuning.datasets import DATA_SETS
from tuning.splits import WINDOW, split, words
from tuning.splits import test_texts as texts_that_are_scored

SAMPLED = 20
TEXT = "The Eagle, near Burger King in 3 streets, serves Italian food (cheap)."


@pytest.fixture(scope="module")
def read(shared: Path) -> list[str]:
    """Every text that the base reads."""
    return [text for _, text in documents(shared / "data")]


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_exercise_holds_nothing_but_its_text(seed: int) -> None:
    """Words of the text, none more often than there, then the text; names and numbers inside it are among them."""
    given, _, text = copy_exercise(TEXT, random.Random(seed)).partition("\n")
    assert text == TEXT
    words = re.findall(r"\w+", given)
    assert len(words) == len(set(words))
    assert set(words) <= set(re.findall(r"\w+", TEXT))
    assert {"Eagle", "Burger", "King", "3", "Italian"} <= set(words)


def test_the_same_seed_makes_the_same_exercise() -> None:
    """A resumed run reads on exactly."""
    assert copy_exercise(TEXT, random.Random(7)) == copy_exercise(TEXT, random.Random(7))
    assert len({copy_exercise(TEXT, random.Random(seed)) for seed in range(20)}) > 10


def test_no_copy_exercise_is_made_of_a_test_text(shared: Path) -> None:
    """What is scored is read by no base, in whatever form."""
    scored = texts_that_are_scored(shared / "data")
    texts = copied(shared / "data")
    assert texts
    assert not any(scored.repeated_in(text) for text in texts)


def test_the_stream_holds_no_label_beside_its_text(read: list[str]) -> None:
    """A row's answer is never in the same document as its input."""
    texts = set(read)
    assert not any("name[" in text and "\n" in text for text in texts)
    assert "PlayMusic" not in texts


def test_the_base_learns_from_no_test_text(shared: Path, read: list[str]) -> None:
    """A plain search of sampled test texts of every set in everything that the base reads."""
    told = [*map(words, read)]
    stream, lines = " | ".join(map(" ".join, told)), set(told)
    rng = random.Random(0)
    for name, data in DATA_SETS.items():
        if name == "babi" or data.corpus:
            continue
        scored = [words(row[field]) for row in split(shared / "data", name).test for field in data.texts]
        assert not lines & {text for text in scored if len(text) > 1}, name  # "goodbye" is nobody's secret
        long = [text for text in scored if len(text) >= WINDOW]
        for text in rng.sample(long, min(SAMPLED, len(long))):
            assert f" {' '.join(text)} " not in stream, name
