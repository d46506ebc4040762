"""Metrics against figures of their reference implementations."""

import pytest

from tuning.metrics import METRICS, rank

ANSWER = "The quick brown fox jumps over the lazy dog."
NEAR = "The fast brown fox jumped over the lazy dog."
FAR = "A stone lies in the river."


def test_rouge_l_is_that_of_the_reference_package() -> None:
    """rouge-score 0.1.2 without stemming gives 7 / 9 and, for the far one, 2 / 15."""
    assert METRICS["rouge_l"]([ANSWER], [[NEAR]]) == pytest.approx(7 / 9)
    assert METRICS["rouge_l"]([ANSWER], [[FAR]]) == pytest.approx(2 / 15)


def test_bleu_takes_all_references_of_an_answer_together() -> None:
    """An answer that is one of two references is perfect, and answers may have unequally many."""
    assert METRICS["bleu"]([ANSWER, NEAR], [[FAR, ANSWER], [NEAR]]) == pytest.approx(100)
    by_hand = (8 / 10 * 5 / 9 * 3 / 8 * 2 / 7) ** 0.25
    assert METRICS["bleu"]([ANSWER], [[NEAR]]) == pytest.approx(100 * by_hand)


def test_chrf_knows_near_from_far() -> None:
    """chrF2 of characters."""
    assert METRICS["chrf"]([ANSWER], [[ANSWER]]) == pytest.approx(100)
    assert METRICS["chrf"]([ANSWER], [[NEAR]]) > 2 * METRICS["chrf"]([ANSWER], [[FAR]])


def test_ter_counts_edits_to_the_nearest_reference() -> None:
    """One word of four wrong is 25; the second reference is nearer; lower is better."""
    found = METRICS["ter"](["the cat sat down"], [["a dog stood", "the cat sat up"]])
    assert found == pytest.approx(25 * 4 / 3.5, abs=0.01)
    assert rank("ter", 10.0) > rank("ter", 20.0)
    assert rank("bleu", 20.0) > rank("bleu", 10.0)


def test_accuracy_and_exact_match_are_letter_for_letter() -> None:
    """Any reference counts, a changed letter does not."""
    assert METRICS["accuracy"](["a", "B", "c"], [["x", "a"], ["b"], ["c"]]) == pytest.approx(2 / 3)


def test_token_f1_takes_the_best_reference() -> None:
    """Seven of nine words shared."""
    assert METRICS["token_f1"]([ANSWER], [[FAR], [NEAR]][1:]) == pytest.approx(7 / 9)
    assert METRICS["token_f1"]([""], [["", "a"]]) == 1.0
