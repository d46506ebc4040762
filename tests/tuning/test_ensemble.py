"""Several prompts of one task heard as one, and files read back."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuning.conftest import LABELS, examples, frozen
from tests.tuning.test_crowd import batch, crowded
from tests.tuning.test_learn import METHODS_ALONE, PLAN, SETTINGS
from tuning.encoding import encode
from tuning.ensemble import heard, likelihoods
from tuning.evaluation import LabelEvaluation
from tuning.files import encoder_of, soft_of
from tuning.learn import Tuning
from tuning.methods import METHODS, MethodName
from tuning.scorer import BaseScorer


def test_a_vote_and_a_mean_can_differ() -> None:
    """Two prompts are nearly even, one is sure of something else."""
    members = [[0.1, 0.0, -9.0], [0.1, 0.0, -9.0], [-9.0, 5.0, -9.0]]
    assert heard(members, "vote") == 0
    assert heard(members, "mean") == 1
    assert heard([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0], [3.1, 0.0]], "vote") == 0, "an even vote goes by the mean"


@pytest.mark.parametrize("kind", ["rows", "deep", "side"])
def test_one_pass_hears_every_prompt_as_it_is_alone(kind: str) -> None:
    """Of different lengths, in one batch."""
    base = frozen()
    softs = crowded(base, kind)
    some = batch(base)
    found = likelihoods(base, softs, [some] * len(softs))
    for soft, own in zip(softs, found, strict=True):
        for one, alone in zip(own, BaseScorer(base, soft).likelihoods(some), strict=True):
            assert one == pytest.approx(alone, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("method", [method for method in METHODS_ALONE if METHODS[method].kind is not None])
def test_a_file_read_back_is_what_was_learnt(tmp_path: Path, method: MethodName) -> None:
    """The same figures on the same rows, whatever its kind."""
    plan = replace(PLAN, steps=3, learning_rate=METHODS[method].rate)
    base = frozen()
    run = Tuning(base, replace(SETTINGS, method=method, plan=plan), examples(), examples())
    for _ in run.events(tmp_path / "checkpoint"):
        pass
    file = run.prompt_file()
    rows = encode(examples(), encoder_of(base, file, LABELS), base.context)
    assert LabelEvaluation(rows)(base, soft_of(base, file)).named == pytest.approx(run.best_figures, rel=1e-5)
