"""Which targets are labels."""

import pytest

from tuning.examples import DataError, Example
from tuning.labels import find, notes


def rows(*targets: str) -> list[Example]:
    return [Example({"text": "t"}, target, line) for line, target in enumerate(targets, start=1)]


def test_few_targets_that_repeat_are_labels() -> None:
    """`auto` sorts them, so the file does not depend on the order of rows."""
    assert find(rows(*"yx" * 5), "auto") == ("x", "y")


def test_targets_that_do_not_repeat_are_free_text() -> None:
    """Ten different sentences are no closed set; nor is a single target a choice."""
    assert find(rows(*"abcdefghij"), "auto") is None
    assert find(rows(*"x" * 50), "auto") is None
    assert find(rows(*"yx" * 5), "none") is None


def test_given_labels_keep_their_order_and_must_cover_the_rows() -> None:
    """A row outside them is named, its target is not."""
    assert find(rows("y", "x"), "y,x,z") == find(rows("y", "x"), ["y", "x", "z"]) == ("y", "x", "z")
    assert find(rows("a,b", "c"), ["a,b", "c"]) == ("a,b", "c")
    with pytest.raises(DataError, match="line 2: the target is none of the labels"):
        find(rows("x", "secret"), "x,y")
    with pytest.raises(DataError, match="at least two labels"):
        find(rows("x"), "x")


def told(train: list[Example], held_out: list[Example], choice: str) -> list[str]:
    return list(notes(train, held_out, choice, find([*train, *held_out], choice)))


def test_what_the_rows_cannot_tell_is_said() -> None:
    """Held-out rows without some label, one target for all, and classes that are taken for free text."""
    rows = [Example({"text": str(n)}, "abc"[n % 3], n) for n in range(18)]
    assert (told(rows[3:], rows[:3], "auto")) == []
    (few,) = told(rows[1:], rows[:1], "auto")
    assert few.startswith("1 row held out, with 1 of 3 labels")
    (same,) = told([Example({"text": "x"}, "a b c d")] * 4, [], "auto")
    assert same == "every row has the same target: it is learnt as free text"
    (short,) = told(rows[:6], [], "auto")
    assert short.startswith("3 short targets in 6 rows are learnt as free text")
    sentences = [Example({"text": str(n)}, f"this is sentence {n % 4}") for n in range(8)]
    assert (told(sentences, [], "auto")) == []
    assert (told(rows[:6], [], "none")) == []
