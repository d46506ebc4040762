"""The data sets of the experiments as examples: at most so many rows to learn from and to be judged on.

Knows recipes and splits; no methods.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demos.recipes import RECIPES, Recipe
from tuning.examples import Example
from tuning.learn import hold_out
from tuning.splits import split

TEST = 500
HELD_OUT = 200
"""Rows of the training part that choose the best evaluation; the test rows are read once, at the end."""
METRICS = ("bleu", "chrf", "ter", "rouge_l")


@dataclass(frozen=True, slots=True)
class Subject:
    """One data set: its recipe, a template without slots, and a sentence that tells the task."""

    recipe: Recipe
    template: str
    instructions: str

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("accuracy",) if self.recipe.labels is not None else METRICS


DART = Recipe(
    "dart", "triples", "ref", "{triples}\n", 0, "A sentence that says a set of triples (DART).", metrics=("bleu",)
)
SUBJECTS: Mapping[str, Subject] = {
    "snips": Subject(RECIPES["intent"], "{text}\nIt is", "Say what the request is about."),
    "clinc150": Subject(RECIPES["domain"], "{text}\nIt is about", "Say what the question is about."),
    "sentiment": Subject(RECIPES["sentiment"], "{text}\nIt was", "Say whether the film was good or bad."),
    "subjectivity": Subject(RECIPES["subjectivity"], "{text}\nIt is", "Say whether this is a story or an opinion."),
    "e2e_nlg": Subject(RECIPES["restaurant"], "{mr}\nIn words:", "Describe the restaurant in a sentence."),
    "dart": Subject(DART, "{triples}\nIn words:", "Say these facts in a sentence."),
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Examples to learn from, to choose by, and to be judged on."""

    train: Sequence[Example]
    held_out: Sequence[Example]
    test: Sequence[Example]


def rows(root: Path, name: str, most: int) -> Rows:
    """Drawn once, the same for every method and seed. The rows of a smaller part are among those of a larger one."""
    recipe = SUBJECTS[name].recipe
    parts = split(root, recipe.data_set)
    train, held_out = hold_out([recipe.example(row) for row in parts.train])
    test = [recipe.example(row) for row in parts.test]
    for some in (train, held_out, test):
        random.Random(f"experiments/{name}").shuffle(some)
    return Rows(train[:most], held_out[:HELD_OUT], test[:TEST])
