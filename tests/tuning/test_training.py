"""The crank alone, its evaluations written by hand."""

from pathlib import Path

import pytest
import torch

from tests.models import rows
from tests.tuning.conftest import LABELS, frozen
from tests.tuning.test_likelihood import TEMPLATES, encoded
from tuning.base import FrozenBase, Interrupted
from tuning.fine_tuning import FineTuning
from tuning.plan import Evaluated, Figures, Plan, Precision, Step, Unsaved
from tuning.prompt_tuning import PromptTuning
from tuning.run import Run
from tuning.soft import Soft
from tuning.training import Training


class Written:
    """An evaluation that says what it was told to, and remembers the rows it saw."""

    def __init__(self, *figures: float) -> None:
        self.left = list(figures)
        self.seen: list[torch.Tensor] = []

    def __call__(self, base: FrozenBase, soft: Soft) -> Figures:
        assert not base.model.training
        self.seen.append(soft.rows.detach().clone())
        figure = self.left.pop(0)
        return Figures({"figure": figure}, (figure,))


def training(base: FrozenBase, evaluation: Written, plan: Plan) -> tuple[Training, PromptTuning]:
    method = PromptTuning(rows(5))
    return Training(base, [Run(method, plan, encoded(base, TEMPLATES[0], LABELS), evaluation)]), method


def test_the_rows_of_the_best_evaluation_are_kept(base: FrozenBase, tmp_path: Path) -> None:
    """Not the last, and of two equal ones the first."""
    evaluation = Written(0.1, 0.5, 0.5, 0.3)
    run, method = training(base, evaluation, Plan("labels", steps=3, evaluate_every=1))
    events = list(run.run(tmp_path / "checkpoint", {}, 60.0))
    assert [e.best for e in events if isinstance(e, Evaluated)] == [True, True, False, False]
    assert torch.equal(method.soft().rows, evaluation.seen[1])
    assert not torch.equal(evaluation.seen[1], evaluation.seen[2])


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_figures_that_are_no_numbers_are_never_the_best(base: FrozenBase, tmp_path: Path, figure: float) -> None:
    """However they compare."""
    run, _ = training(base, Written(0.1, figure, 0.2), Plan("labels", steps=2, evaluate_every=1))
    events = list(run.run(tmp_path / "checkpoint", {}, 60.0))
    assert [e.best for e in events if isinstance(e, Evaluated)] == [True, False, True]


def test_a_run_that_cannot_be_saved_goes_on(base: FrozenBase, tmp_path: Path) -> None:
    """A disk without room costs the way back, not what is learnt; each time it is said why."""
    place, why = tmp_path / "nowhere" / "checkpoint", Unsaved("No such file or directory")
    run, method = training(base, Written(0.1, 0.2, 0.3), Plan("labels", steps=2, evaluate_every=1))
    events = list(run.run(place, {}, -1.0))
    whole, same = training(base, Written(0.1, 0.2, 0.3), Plan("labels", steps=2, evaluate_every=1))
    list(whole.run(tmp_path / "checkpoint", {}, 60.0))
    assert [event for event in events if isinstance(event, Unsaved)] == [why] * 3
    assert torch.equal(method.soft().rows, same.soft().rows)


def test_a_run_that_is_stopped_and_cannot_be_saved_says_why(base: FrozenBase, tmp_path: Path) -> None:
    """Beside that it was stopped."""
    run, _ = training(base, Written(0.1), Plan("labels", steps=2))

    def pace() -> None:
        raise Interrupted

    base.pace = pace
    with pytest.raises(Interrupted) as stopped:
        list(run.run(tmp_path / "nowhere" / "checkpoint", {}, 60.0))
    assert stopped.value.unsaved == "No such file or directory"


def test_a_run_without_progress_stops(base: FrozenBase, tmp_path: Path) -> None:
    """`patience` evaluations without a better one are enough."""
    run, _ = training(base, Written(0.5, 0.6, 0.1, 0.2, 0.3), Plan("labels", 1000, evaluate_every=2, patience=2))
    steps = [e.step for e in run.run(tmp_path / "checkpoint", {}, 60.0) if isinstance(e, Step)]
    assert steps[-1] == 6


def test_the_rate_rises_then_falls_to_zero() -> None:
    """Linear warm-up, linear decay."""
    plan = Plan("labels", steps=110, warmup=10)
    assert [plan.scale(step) for step in (0, 4, 9, 10, 60, 109)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5, 0.01])
    short = Plan("labels", steps=4, warmup=50)
    assert [short.scale(step) for step in range(4)] == [0.5, 1.0, 1.0, 0.5], "few steps get there too"


def test_bfloat16_products_change_little_of_what_is_learnt(tmp_path: Path) -> None:
    """The first steps' losses agree to bfloat16's precision; what is learnt stays float32."""
    losses = {}
    precisions: list[Precision] = ["float32", "bfloat16"]
    for precision in precisions:
        plan = Plan("labels", steps=4, learning_rate=0.04, evaluate_every=4, precision=precision)
        run, method = training(frozen(), Written(0.1, 0.2), plan)
        losses[precision] = [e.loss for e in run.run(tmp_path / precision, {}, 60.0) if isinstance(e, Step)]
        assert method.soft().rows.dtype == torch.float32
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)


def test_runs_that_change_the_base_itself_do_not_learn_together(base: FrozenBase) -> None:
    """Each would move the other's weights."""
    method = FineTuning(base)
    runs = [Run(method, Plan("labels"), encoded(base, TEMPLATES[0], LABELS), Written(), name) for name in "ab"]
    with pytest.raises(ValueError, match="one at a time"):
        Training(base, runs)


def test_a_base_keeps_its_weights(base: FrozenBase, tmp_path: Path) -> None:
    """Only the rows learn."""
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    run, _ = training(base, Written(0.1, 0.2), Plan("labels", steps=3, evaluate_every=3))
    for _ in run.run(tmp_path / "checkpoint", {}, 60.0):
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.model.state_dict().items())
    assert all(parameter.grad is None for parameter in base.model.parameters())
