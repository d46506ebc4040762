"""What the harness heard from the server, held against what it heard from its own model."""

from typing import Any

import pytest

from clients.lm_eval.judge import differences, texts, unequal, unlike


def choices(number: int, *values: float) -> dict[str, Any]:
    """A row of multiple choice as the harness logs it: strings, each with whether it was greedy."""
    return {"doc_id": number, "doc": {"q": number}, "resps": [[[str(value), "False"]] for value in values]}


def whole(number: int, value: object) -> dict[str, Any]:
    """A row of one text, scored or generated."""
    return {"doc_id": number, "doc": {"q": number}, "resps": [[value]]}


def test_equal_log_likelihoods_are_equal_in_any_order() -> None:
    """Workers finish as they like; a few millionths are what float32 leaves."""
    found = differences([choices(1, -2.0, -3.0), choices(0, -1.0)], [choices(0, -1.000009), choices(1, -2.0, -3.0)])
    assert [round(apart, 6) for apart, _ in found] == [9e-06, 0.0, 0.0]
    assert unlike("mc", found) == []


@pytest.mark.parametrize("wrong", [-2.0021, float("nan"), float("-inf")])
def test_a_wrong_log_likelihood_is_a_fault(wrong: float) -> None:
    """One choice of one row, named; what is no number is wrong too."""
    found = differences([choices(0, -1.0, wrong)], [choices(0, -1.0, -2.0)])
    assert len(unlike("mc", found)) == 1
    assert unlike("mc", found)[0].startswith("mc: -2 nats differ by")


def test_a_whole_text_may_differ_by_no_more_than_a_choice() -> None:
    """However long it is."""
    assert unlike("roll", differences([whole(0, "-2992.9170")], [whole(0, "-2992.9175")])) == []
    assert unlike("roll", differences([whole(0, "-2992.9170")], [whole(0, "-2992.9190")])) != []


@pytest.mark.parametrize("theirs", [[], [whole(1, "-1.0")], [whole(0, "-1.0"), whole(1, "-1.0")]])
def test_other_rows_are_not_compared(theirs: list[dict[str, Any]]) -> None:
    """Nor none at all."""
    with pytest.raises(ValueError, match="not of the same rows"):
        differences([whole(0, "-1.0")] if theirs else [], theirs)


def test_a_choice_that_is_missing_is_an_error() -> None:
    """Not a shorter comparison."""
    with pytest.raises(ValueError, match="longer"):
        differences([choices(0, -1.0)], [choices(0, -1.0, -2.0)])


def test_a_wrong_text_is_a_fault() -> None:
    """Each row that differs; rows too few, and no rows."""
    ours = texts([whole(1, "b"), whole(0, "a")])
    assert ours == ["a", "b"]
    assert unequal("generation", ours, ["a", "b"]) == []
    assert unequal("generation", ours, ["a", "c"]) == ["generation: row 1 differs"]
    assert unequal("generation", ours, ["a"]) == ["generation: 2 rows against 1"]
    assert unequal("generation", [], []) == ["generation: 0 rows against 0"]
