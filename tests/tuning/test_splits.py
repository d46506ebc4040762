"""No test text is learnt from by the tuner."""

from pathlib import Path

import pytest

from demos.recipes import RECIPES
from tuning.datasets import DATA_SETS
from tuning.learn import hold_out
from tuning.splits import TestTexts, part_of, split, without_repeats, words

TEST = "The quick brown fox jumps over the lazy dog tonight."


def test_a_test_text_is_found_whatever_its_case_and_spacing() -> None:
    """Long ones inside other texts, short ones as a whole only."""
    tests = TestTexts([TEST, "Play some jazz"])
    assert tests.repeated_in("And so: the QUICK brown fox,  jumps over the lazy dog tonight, again")
    assert tests.repeated_in("play some jazz!")
    assert not tests.repeated_in("please play some jazz")
    assert not tests.repeated_in("the quick brown fox jumps over the lazy dog")


def test_a_corpus_text_loses_the_paragraphs_that_repeat_a_test_text() -> None:
    """The rest stays as it was."""
    tests = TestTexts([TEST])
    assert without_repeats(f"One.\n\nHe said: {TEST}\n\nTwo.", tests) == "One.\n\nTwo."
    assert without_repeats(f"User: hello\nSystem: {TEST}\nUser: bye", tests) == "User: hello\nUser: bye"


def test_texts_without_an_official_part_are_split_by_their_hash() -> None:
    """About a tenth is test, the same tenth for ever."""
    parts = [part_of(str(n)) for n in range(1000)]
    assert 70 < parts.count("test") < 130
    assert part_of("text 8") == part_of("text 8")


@pytest.mark.parametrize("name", sorted({recipe.data_set for recipe in RECIPES.values()}))
def test_the_tuner_learns_from_no_test_text(shared: Path, name: str) -> None:
    """Neither rows that train nor rows that decide when to stop hold a test text of their set."""
    data, parts = DATA_SETS[name], split(shared / "data", name)
    learnt = {words(row[field]) for row in parts.train for field in data.texts}
    scored = {words(row[field]) for row in parts.test for field in data.texts}
    assert not learnt & scored
    recipe = next(recipe for recipe in RECIPES.values() if recipe.data_set == name)
    seen = [example for part in hold_out([recipe.example(row) for row in parts.train]) for example in part]
    assert len(seen) == len(parts.train)
