"""Learn demo tasks on their train parts: soft prompts, text tasks, and full fine-tuning as the yardstick.

Knows recipes, data sets and the tuner. Test rows are seen by the yardstick alone, which no server can run and score.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cli.places import CHECKPOINT, REPORT, write
from cli.watching import watch
from demos.recipes import DESIGNS, RECIPES, Design, Recipe
from prompt_store.metadata import Metadata
from prompt_store.prompt import SoftPrompt, build
from prompt_store.template import Template
from tuning.base import FrozenBase
from tuning.design import designed as written
from tuning.encoding import Encoder, encode
from tuning.evaluation import LabelEvaluation
from tuning.examples import Example
from tuning.learn import Tuning, hold_out
from tuning.soft import Soft
from tuning.splits import split

DRAWS, JUDGED = 12, 200
"""How many draws of exemplars a text task tries, and on how many held-out rows of train."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where data sets are and files go."""

    data: Path
    out: Path

    def examples(self, recipe: Recipe) -> tuple[list[Example], list[Example]]:
        """(train, held out), both from the train part."""
        return hold_out([recipe.example(row) for row in split(self.data, recipe.data_set).train])


def learn(name: str, base: FrozenBase, place: Place) -> None:
    """One soft prompt; a killed run goes on where it was, a finished one is only written again."""
    recipe, file = RECIPES[name], place.out / f"{name}.safetensors"
    run = Tuning(base, recipe.settings(), *place.examples(recipe))
    watch(run.events(file.with_suffix(CHECKPOINT), resume=True), as_json=False)
    write(file, run.prompt_file(), run.report())


def fine_tune(name: str, base: FrozenBase, place: Place) -> None:
    """The yardstick: the same task by all weights of `base`, which is spent; its test figures beside its curve."""
    recipe, file = RECIPES[name], place.out / f"{name}.fine-tuning.safetensors"
    run = Tuning(base, recipe.fine_tuned(), *place.examples(recipe))
    watch(run.events(file.with_suffix(CHECKPOINT), resume=True), as_json=False)
    test = [recipe.example(row) for row in split(place.data, recipe.data_set).test]
    report = {**run.report(), "test": run.measure(test, recipe.metrics)}
    file.with_suffix(REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def design(name: str, base: FrozenBase, place: Place) -> None:
    """A text task: instructions and one exemplar a label, the best of a few draws on held-out rows of train."""
    told = DESIGNS[name]
    recipe = RECIPES[told.shows]
    labels = recipe.labels or ()
    train, held_out = place.examples(recipe)
    judged = random.Random(0).sample(held_out, min(JUDGED, len(held_out)))
    nothing = torch.zeros(0, base.base.hidden, device=base.device)
    tried = []
    for draw in range(DRAWS):
        text = designed(told, labels, train, draw)
        parsed = Template.parse(text, "text", 0)
        encoder = Encoder(parsed, " ", base.tokenizer.encode, base.tokenizer.bos, base.ends[0], labels)
        tried.append((LabelEvaluation(encode(judged, encoder, base.context))(base, Soft(nothing)), text))
    figures, template = max(tried, key=lambda pair: pair[0].order)
    metadata = Metadata(
        kind="text",
        length=0,
        template=template,
        labels=labels,
        defaults={"max_new_tokens": 8, "stop": ["\n"]},
        description=told.description,
        metrics={f"held_out_{name}": value for name, value in figures.named.items()},
        tuning={"method": "design", "draws": DRAWS, "judged_rows": len(judged)},
    )
    curve = [{"draw": draw, **found.named} for draw, (found, _) in enumerate(tried)]
    write(place.out / f"{name}.safetensors", build(SoftPrompt("text", 0, {}), metadata), {"curve": curve})


def designed(told: Design, labels: Sequence[str], train: Sequence[Example], draw: int) -> str:
    """A template of instructions, one random exemplar a label in random order, and the line to be answered."""
    rng = random.Random(f"design/{draw}")
    exemplars = [rng.choice([one for one in train if one.target == label]) for label in labels]
    rng.shuffle(exemplars)
    instructions = told.instructions.replace("{labels}", ", ".join(labels))
    return written(instructions, told.line, exemplars, " ")
