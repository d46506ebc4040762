"""What writes text: exemplars from the data, and a search that accepts on the metric alone."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from prompt_store.prompt import parse
from prompt_store.template import Template
from tests.tuning.conftest import LABELS, examples, frozen
from tests.tuning.test_learn import SETTINGS
from tuning.base import FrozenBase
from tuning.design import designed, exemplars, literal, shown
from tuning.encoding import Encoded, Encoder
from tuning.examples import DataError, Example
from tuning.hard import Budget, Hard, Round, edited
from tuning.hotflip import HotFlip
from tuning.learn import hold_out
from tuning.scorer import BaseScorer
from tuning.text import TextName, TextSettings, TextTask

BUDGET = Budget(scored=3000, candidates=6, judged=8, searched=16)
SMALL = replace(BUDGET, scored=600)


class Counting(BaseScorer):
    """The base's own, and how many rows it was asked for."""

    def __init__(self, base: FrozenBase) -> None:
        super().__init__(base)
        self.rows = 0

    def likelihoods(self, prompts: Sequence[Encoded]) -> list[list[float]]:
        self.rows += len(prompts)
        return super().likelihoods(prompts)


def encoder(base: FrozenBase, labels: tuple[str, ...] | None = LABELS) -> Encoder:
    template = Template.parse("{text}", "text", 0)
    return Encoder(template, " ", base.tokenizer.encode, base.tokenizer.bos, 1, labels)


def search(base: FrozenBase, scorer: BaseScorer, seed: int = 0, budget: Budget = BUDGET) -> Hard:
    train, held_out = hold_out(examples())
    line = "{text} Intent:"
    return Hard(scorer, encoder(base), base.context, line, "Say what it is", train, held_out, budget, seed)


def test_a_search_never_ends_worse_than_it_began() -> None:
    """On held-out rows, within its budget; what is accepted is better on the search rows."""
    base = frozen()
    scorer = Counting(base)
    found = search(base, scorer)
    rounds = list(found.rounds())
    assert found.best.held_out.order >= found.began.held_out.order
    accepted = [one for one in rounds if one.accepted]
    assert accepted, "a search that accepts nothing proves nothing"
    figures = [(one.figures["accuracy"], -one.figures["loss"]) for one in accepted]
    assert figures == sorted(figures)
    assert scorer.rows == rounds[-1].scored
    assert BUDGET.scored - 200 < scorer.rows <= BUDGET.scored


def test_a_budget_without_a_single_round_is_refused() -> None:
    """Before a row is read; one that holds just one is kept to."""
    base = frozen()
    scorer = Counting(base)
    tight = search(base, scorer)
    tight.budget = replace(BUDGET, scored=10)
    with pytest.raises(DataError, match=r"too small to search: one round takes (\d+)") as refused:
        list(tight.rounds())
    assert scorer.rows == 0
    tight.budget = replace(BUDGET, scored=int(str(refused.value).split()[-1]))
    assert len(list(tight.rounds())) >= 1
    assert scorer.rows <= tight.budget.scored


def test_the_same_seed_finds_the_same_words() -> None:
    """And another seed goes another way."""
    ways = [
        [one.instruction for one in search(base, BaseScorer(base), seed, SMALL).rounds()]
        for base in [frozen()]
        for seed in (0, 0, 1)
    ]
    assert ways[0] == ways[1] != ways[2]


def test_edits_change_words_and_keep_them_words() -> None:
    """Every kind of edit of a short and of an empty instruction; none grows for ever."""
    rng, pool = random.Random(0), ["rain", "music"]
    for words in [(), ("one",), ("one", "two", "three")] * 50:
        new = edited(words, pool, rng)
        assert set(new) <= {*words, *pool}
        assert len(new) <= len(words) + 2


def test_the_gradient_proposes_words_that_lower_the_loss() -> None:
    """More often than exchanging a word for a random one does."""
    base = frozen()
    train, _ = hold_out(examples())
    line = "{text} Intent:"
    start = ("please", "say", "what", "it", "is")
    flip = HotFlip(base, encoder(base), line, train, count=12)
    proposed = flip(start)
    assert proposed
    assert all(len(words) == len(start) and words != start for words in proposed)
    rng = random.Random(0)
    drawn = [
        (*start[:place], rng.choice(list(flip._words.values())), *start[place + 1 :])
        for place in (rng.randrange(len(start)) for _ in proposed)
    ]
    one = search(base, BaseScorer(base))
    own, *others = (figures.named["loss"] for figures in one._judge([start, *proposed, *drawn], train))
    better = [loss < own for loss in others]
    assert sum(better[: len(proposed)]) > sum(better[len(proposed) :])


def test_exemplars_show_every_label_as_often() -> None:
    """As far as the data has them; their braces are no fields."""
    chosen = exemplars(examples(), LABELS, 6, random.Random(0))
    assert sorted(one.target for one in chosen) == sorted(LABELS * 2)
    template = designed("{x} means", "{text}?", [Example({"text": "{y}"}, "b{}")], " ")
    assert template == "{{x}} means\n\n{{y}}? b{{}}\n\n{text}?"
    assert Template.parse(template, "text", 0).fields == ("text",)
    assert literal("{a}") == "{{a}}"


@pytest.mark.parametrize("method", ["design", "hard"])
@pytest.mark.parametrize("labels", [LABELS, None])
def test_what_was_written_is_served_as_a_text_task(method: TextName, labels: tuple[str, ...] | None) -> None:
    """The file holds the template that was best; measuring it again gives its figures."""
    base = frozen()
    settings = replace(
        SETTINGS, labels=labels, metric="accuracy" if labels else "bleu", max_new_tokens=4, template="{soft:3}{text} is"
    )
    told = TextSettings("Name it", shots=3, draws=3, budget=SMALL)
    task = TextTask(base, method, settings, told, *hold_out(examples()))
    events = list(task.events())
    assert all(isinstance(event, Round) == (method == "hard") for event in events)
    file = parse(task.prompt_file().data)
    assert file.metadata.kind == "text"
    assert file.metadata.template == task.template
    assert task.template.endswith("{text} is")
    assert file.metadata.defaults["stop"] == ["\n"]
    assert ("max_new_tokens" in file.metadata.defaults) == (labels is not None)
    again = task.measure(task.held_out, [settings.metric], file.metadata.template)
    assert again.named == pytest.approx(task.figures)


def test_fields_are_filled_once_whatever_their_values_say() -> None:
    """A value that names another field, and braces of the line itself."""
    one = Example({"a": "use {b} here", "b": "x"}, "y")
    assert shown("A {a} {{b}} B {b} ->", one, " ") == "A use {{b}} here {{b}} B x -> y"


def test_data_that_reads_as_a_special_token_is_no_exemplar() -> None:
    """In a literal it would become one."""
    base = frozen()
    rows = [replace(one, inputs={"text": "hi </s> <s>" + one.inputs["text"]}) for one in examples()]
    task = TextTask(base, "design", SETTINGS, TextSettings(shots=2, draws=2), [*rows, *examples()[:6]], examples())
    assert list(task.events())
    assert "</s>" not in task.template


def test_a_search_passes_over_what_does_not_fit() -> None:
    """Rows so near the context that most longer instructions do not; the start does."""
    base = frozen()
    line = "{text} Intent:"
    room = base.context - max(len(encoder(base).tokenize(f"say {label}", False)) for label in LABELS) - 24
    long = [replace(one, inputs={"text": base.tokenizer.decode([20] * room)}) for one in examples()]
    rows = [replace(one, inputs={"text": one.inputs["text"] + f" {n}"}) for n, one in enumerate(long)]
    found = Hard(BaseScorer(base), encoder(base), base.context, line, "say", rows[4:], rows[:4], SMALL)
    assert list(found.rounds())
    with pytest.raises(DataError, match="the base takes"):
        list(Hard(BaseScorer(base), encoder(base), base.context, line, "say " * 60, rows[4:], rows[:4]).rounds())


@pytest.mark.parametrize("hotflip", [False, True])
def test_one_row_that_leaves_little_room_ends_no_search(hotflip: bool) -> None:
    """What wins on rows that it fits, and then does not fit all of them, is no better than what was there."""
    base, line = frozen(), "{text} Intent:"
    room = base.context - max(len(encoder(base).tokenize(f"say {label}", False)) for label in LABELS) - 24
    rows = examples()
    rows[8] = replace(rows[8], inputs={"text": base.tokenizer.decode([20] * room)})
    told = replace(SMALL, searched=20, judged=2)
    flip = HotFlip(base, encoder(base), line, rows[4:]) if hotflip else None
    found = Hard(BaseScorer(base), encoder(base), base.context, line, "say", rows[4:], rows[:4], told, 0, flip)
    assert list(found.rounds())


def test_a_search_without_words_to_draw_from_ends() -> None:
    """Empty inputs, free text, no instructions."""
    base = frozen()
    rows = [Example({"text": ""}, str(n)) for n in range(6)]
    found = Hard(BaseScorer(base), encoder(base, None), base.context, "{text}x", "", rows, rows, BUDGET)
    assert list(found.rounds())


def test_exemplars_that_never_fit_are_said() -> None:
    """Instead of a template that no request could use."""
    long = [replace(one, inputs={"text": one.inputs["text"] + " word" * 100}) for one in examples()]
    task = TextTask(frozen(), "design", SETTINGS, TextSettings(shots=4, draws=2), *hold_out(long))
    with pytest.raises(DataError, match="no draw of 4 exemplars fits"):
        list(task.events())


def test_labels_that_begin_one_another_are_no_matter_of_room() -> None:
    """Whichever method is told them."""
    labels = ("music", "music please")
    rows = [replace(one, target=labels[n % 2]) for n, one in enumerate(examples())]
    for method in ("design", "hard"):
        task = TextTask(frozen(), method, replace(SETTINGS, labels=labels), TextSettings("Say", 2), *hold_out(rows))
        with pytest.raises(DataError, match="begins with all of label 1"):
            list(task.events())
