"""A search that was ended anywhere goes on to what it would have come to, and asks nothing twice."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.tuning.conftest import LABELS, examples, frozen
from tests.tuning.test_learn import SETTINGS
from tests.tuning.test_text import BUDGET, Counting
from tuning.base import FrozenBase, Interrupted
from tuning.checkpoint import CheckpointError, write
from tuning.encoding import Encoded
from tuning.hard import Budget
from tuning.learn import hold_out
from tuning.plan import Unsaved
from tuning.remembering import Remembering
from tuning.scorer import BaseScorer
from tuning.text import TextName, TextSettings, TextTask

TOLD = TextSettings("Name it", shots=3, draws=5, budget=replace(BUDGET, scored=400), hotflip=True)
WAYS = [("design", LABELS), ("design", None), ("hard", LABELS), ("hard", None)]


def task(
    base: FrozenBase, method: TextName, labels: tuple[str, ...] | None = LABELS, told: TextSettings = TOLD
) -> TextTask:
    settings = replace(
        SETTINGS, labels=labels, metric="accuracy" if labels else "bleu", max_new_tokens=4, template="{text} is"
    )
    return TextTask(base, method, settings, told, *hold_out(examples()), scorer=Counting(base))


def asked(one: TextTask) -> int:
    assert isinstance(one.scorer, Counting)
    return one.scorer.rows


@pytest.mark.parametrize(("method", "labels"), WAYS)
def test_a_search_goes_on_from_wherever_it_ended(
    tmp_path: Path, method: TextName, labels: tuple[str, ...] | None
) -> None:
    """Closed after each event; what comes is what had not come, the result an undisturbed search's, to the bytes."""
    base = frozen()
    whole = task(base, method, labels)
    told = list(whole.events())
    assert len(told) >= 3
    for count in range(1, len(told) + 1):
        checkpoint = tmp_path / f"{count}"
        first = task(base, method, labels)
        assert list(islice(first.events(checkpoint, save_seconds=-1), count)) == told[:count]
        second = task(base, method, labels)
        rest = list(second.events(checkpoint, resume=True))
        assert rest == told[-len(rest) :] if rest else count == len(told)
        assert len(rest) <= len(told) - count + 1  # what was told of the last question may be told once more
        assert asked(second) < asked(whole) or count == 1  # nothing was told before the first question
        assert second.prompt_file().data == whole.prompt_file().data
        assert second.report() == whole.report()


def test_an_interrupted_search_is_saved_where_it_is(tmp_path: Path) -> None:
    """However long it is between two savings."""
    base, checkpoint = frozen(), tmp_path / "checkpoint"
    whole = task(base, "hard")
    told = list(whole.events())
    passes = iter(range(6))

    def pace() -> None:
        if next(passes, None) is None:
            raise Interrupted

    base.pace = pace
    stopped = task(base, "hard")
    with pytest.raises(Interrupted):
        list(stopped.events(checkpoint, save_seconds=3600))
    base.pace = lambda: None
    second = task(base, "hard")
    rest = list(second.events(checkpoint, resume=True))
    assert rest == told[-len(rest) :] != []
    assert 0 < asked(second) < asked(whole)
    assert second.report() == whole.report()


@pytest.mark.parametrize(
    ("method", "more"),
    [("hard", replace(TOLD, budget=replace(BUDGET, scored=1400))), ("design", replace(TOLD, draws=9))],
)
def test_a_longer_search_goes_on_where_a_shorter_one_ended(
    tmp_path: Path, method: TextName, more: TextSettings
) -> None:
    """To what it would have found at once."""
    base, checkpoint = frozen(), tmp_path / "checkpoint"
    list(task(base, method).events(checkpoint))
    second, whole = task(base, method, told=more), task(base, method, told=more)
    assert list(second.events(checkpoint, resume=True))
    list(whole.events())
    assert asked(second) < asked(whole)
    assert second.report() == whole.report()


def test_another_search_is_refused_by_the_names_of_what_differs(tmp_path: Path) -> None:
    """And a file that holds something else."""
    base, checkpoint = frozen(), tmp_path / "checkpoint"
    list(task(base, "design").events(checkpoint))
    for other, named in [
        (task(base, "hard"), "method"),
        (task(base, "design", told=replace(TOLD, instructions="Say it", shots=2)), "instructions, shots"),
    ]:
        with pytest.raises(CheckpointError, match=f"belongs to a run with other {named}$"):
            list(other.events(checkpoint, resume=True))
    checkpoint.write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        list(task(base, "design").events(checkpoint, resume=True))


def test_a_checkpoint_whose_sizes_do_not_add_up_is_refused(tmp_path: Path) -> None:
    """Before anything is answered from it."""
    path = tmp_path / "checkpoint"
    tensors = {"0.values": torch.zeros(5), "0.sizes": torch.tensor([3, 3])}
    write(path, tensors, {"identity": {}, "progress": {"asked": ["a"], "seconds": 0.0}})
    with pytest.raises(CheckpointError, match="holds another run"):
        Remembering(Scripted(), path, {}).resume()


def test_a_search_that_cannot_be_kept_ends_all_the_same(tmp_path: Path) -> None:
    """A disk without room costs the way back, not what was found."""
    one, whole = task(frozen(), "hard"), task(frozen(), "hard")
    told = list(one.events(tmp_path / "nowhere" / "checkpoint", save_seconds=-1))
    assert [event for event in told if not isinstance(event, Unsaved)] == list(whole.events())
    assert told[1] == told[-1] == Unsaved("No such file or directory")
    assert one.report() == whole.report()


def test_a_search_that_is_stopped_and_cannot_be_kept_says_why(tmp_path: Path) -> None:
    """Beside that it was stopped."""
    base = frozen()

    def pace() -> None:
        raise Interrupted

    base.pace = pace
    with pytest.raises(Interrupted) as stopped:
        list(task(base, "design").events(tmp_path / "nowhere" / "checkpoint"))
    assert stopped.value.unsaved == "No such file or directory"


def test_what_a_method_does_not_heed_makes_no_other_search(tmp_path: Path) -> None:
    """Its checkpoint is gone on from."""
    base = frozen()
    cases: list[tuple[TextName, TextSettings]] = [
        ("design", replace(TOLD, hotflip=False, budget=Budget(1))),
        ("hard", replace(TOLD, shots=1, draws=1)),
    ]
    for method, told in cases:
        first, other = task(base, method), task(base, method, told=told)
        list(first.events(tmp_path / method))
        other.settings = replace(other.settings, max_new_tokens=5)  # labels are not generated
        assert list(other.events(tmp_path / method, resume=True)) == []
        assert other.report() == first.report()


class Scripted(BaseScorer):
    """Says how often it was asked."""

    def __init__(self) -> None:
        self.questions = 0

    def likelihoods(self, prompts: Sequence[Encoded]) -> list[list[float]]:
        self.questions += 1
        return [[-float("inf"), -0.1 * self.questions] for _ in prompts]

    def answers(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        self.questions += 1
        return [[*prompt][:max_new_tokens] for prompt in prompts]


def test_answers_are_as_exact_as_they_were(tmp_path: Path) -> None:
    """Likelihoods with all their bits and infinities, ids, empty lists; from the first other question on all is new."""

    def questions(one: Remembering, last: int) -> Iterator[tuple[list[list[float]] | list[list[int]], bool]]:
        for prompt in (3, 4, last):
            yield one.likelihoods([Encoded((prompt,), ((1,), (2,)))]), one.again
        for ids in ([(5, 6), ()], []):
            yield one.answers(ids, 2), one.again

    scorer, path = Scripted(), tmp_path / "checkpoint"
    first = Remembering(scorer, path, {"a": 1})
    assert first.resume() is False
    told = list(questions(first, 5))
    first.save()
    assert scorer.questions == 5
    same = Remembering(scorer, path, {"a": 1})
    assert same.resume() is True
    assert list(questions(same, 5)) == [(rows, True) for rows, _ in told]
    assert scorer.questions == 5
    assert same.seconds >= first._before
    other = Remembering(scorer, path, {"a": 1})
    other.resume()
    assert [again for _, again in questions(other, 6)] == [True, True, False, False, False]
    assert scorer.questions == 8
