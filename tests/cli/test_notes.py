"""What figures do not say is said beside them."""

from typing import Any

import pytest

from cli.notes import after
from tests.tuning.conftest import examples, frozen
from tests.tuning.test_learn import SETTINGS
from tuning.compare import AnyMethod, Cell, Comparison, Result
from tuning.learn import hold_out
from tuning.text import TextSettings


@pytest.mark.parametrize(
    ("method", "report", "said"),
    [
        ("prompt_tuning", {"best_step": 0, "steps": SETTINGS.plan.steps}, ["what is written has learnt nothing"]),
        ("prompt_tuning", {"best_step": 1, "steps": SETTINGS.plan.steps - 1}, ["evaluations without a better one"]),
        ("prompt_tuning", {"best_step": 1, "steps": SETTINGS.plan.steps}, []),
        ("hard", {"began": {"loss": 1}, "best": {"loss": 1}, "template": "a"}, ["it began with", "template is 'a'"]),
        ("hard", {"began": {"loss": 2}, "best": {"loss": 1}, "template": "a"}, ["template is 'a'"]),
        ("design", {"best": {"loss": 1}, "template": "a"}, []),
    ],
)
def test_a_run_says_how_it_ended(method: AnyMethod, report: dict[str, Any], said: list[str]) -> None:
    """With nothing learnt, early, or with other words; and nothing where there is nothing to say."""
    run = Comparison(frozen(), frozen, SETTINGS, TextSettings(), [method], [4], [0], *hold_out(examples()))
    best = Result(Cell(method, 4, 0), {"loss": 1.0}, 1, 0.1, 1, 1.0, [], None, report)
    found = " ".join(after(run, best))
    assert bool(found) == bool(said)
    assert all(one in found for one in said)
    assert ("it began with" in found) == ("it began with" in said)
