"""Scores over HTTP are those that the tuner computes, and are taken once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cli.loading import load_base
from cli.places import write
from demos.recipes import RECIPES
from demos.score import score
from prompt_store.prompt import parse
from tests.e2e.process import serving
from tests.models import save
from tuning.base import FrozenBase
from tuning.learn import Tuning
from tuning.splits import split


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


def learnt(base: FrozenBase, data: Path, folder: Path, name: str) -> Tuning:
    """A few steps of a recipe on a tiny base, written where `score` looks."""
    recipe = RECIPES[name]
    train = [recipe.example(row) for row in split(data, recipe.data_set).train[::400]]
    plan = replace(recipe.plan, steps=4, evaluate_every=4)
    run = Tuning(base, replace(recipe.settings(), plan=plan), train, train[:10])
    for _ in run.events(folder / "checkpoint"):
        pass
    write(folder / f"{name}.safetensors", run.prompt_file(), run.report())
    return run


def test_a_task_is_scored_over_http_as_the_tuner_scores_it(shared: Path, model: Path, tmp_path: Path) -> None:
    """The accuracy of `/classify` on the whole test part is the tuner's own, the file tells it, and once is enough."""
    torch.set_num_threads(1)
    data = shared / "data"
    run = learnt(load_base(str(model), "cpu", None, None), data, tmp_path, "intent")
    test = [RECIPES["intent"].example(row) for row in split(data, "snips").test]
    with serving("--model", str(model), "--store", "memory://") as (process, _):
        results = score("intent", data, tmp_path, process.url)
        served = len(process.log)
        assert score("intent", data, tmp_path, process.url) == results
        assert len(process.log) <= served + 2, "scored twice"
    assert results["test"] == {"accuracy": pytest.approx(run.measure(test, ["accuracy"])["accuracy"])}
    assert results["majority"] == pytest.approx(1 / 7)
    assert results["rows"] == 700
    metrics = parse((tmp_path / "intent.safetensors").read_bytes()).metadata.metrics
    assert metrics["test_accuracy"] == results["test"]["accuracy"]
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["intent"] == results
