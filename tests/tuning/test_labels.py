"""Which targets are labels."""

import pytest

from tuning.examples import DataError, Example
from tuning.labels import find


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
