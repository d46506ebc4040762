"""Recipes fit their data sets and templates."""

from pathlib import Path

import pytest

from demos.learn import designed
from demos.recipes import DESIGNS, RECIPES
from prompt_store.template import Template
from tuning.examples import Example
from tuning.splits import split

NAMES = sorted(RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_has_the_recipes_rows_and_its_one_field(name: str) -> None:
    """Slots add up, and a plain string can be the inputs."""
    recipe = RECIPES[name]
    assert Template.parse(recipe.template, "embeddings", recipe.length).fields == (recipe.source,)
    assert Template.parse(recipe.fine_tuned().template, "text", 0).fields == (recipe.source,)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_its_data_set_becomes_an_example(shared: Path, name: str) -> None:
    """No class without its word, no two classes with one word."""
    recipe = RECIPES[name]
    parts = split(shared / "data", recipe.data_set)
    targets = {recipe.example(row).target for row in (*parts.train, *parts.test)}
    if recipe.words is not None:
        assert targets == set(recipe.words.values())
        assert len(targets) == len(recipe.words)


def test_a_designed_template_shows_each_label_once_and_ends_in_the_line() -> None:
    """Braces of an exemplar are text, and the same draw gives the same template."""
    rows = [Example({"text": f"{{{label}}}"}, label) for label in ("music", "weather")]
    told = DESIGNS["intent-design"]
    text = designed(told, ("music", "weather"), rows, draw=0)
    template = Template.parse(text, "text", 0)
    assert template.fields == ("text",)
    assert text.endswith("\n\nRequest: {text}\nAbout:")
    assert text.count("About: music") == text.count("About: weather") == 1
    assert designed(told, ("music", "weather"), rows, draw=0) == text


def test_designs_name_recipes() -> None:
    """A table cannot point at nothing."""
    assert {told.shows for told in DESIGNS.values()} <= set(RECIPES)
