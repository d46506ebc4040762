"""Score learnt files on the whole test part, once, over HTTP against a running server.

Publishes a file, asks for every test row, writes the figures into the file's metadata and a JSON of results. A file
whose tensors and template were scored before is not scored again. Knows the HTTP contract; no model.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import track

from cli.client import asking, fail
from demos.recipes import DESIGNS, RECIPES, Recipe
from prompt_store.prompt import PromptFile, build, parse
from tuning.evaluation import Group, group
from tuning.metrics import METRICS
from tuning.splits import split

PACKAGED = Path("server/default/tasks")
"""What is scored where nothing was learnt anew."""
AT_ONCE = 128
"""Requests in one call; the server takes 256."""


def score(name: str, data: Path, folder: Path, url: str | None) -> dict[str, Any]:
    """The results of one file, kept in `folder/results.json` under the task's name."""
    folder.mkdir(parents=True, exist_ok=True)
    learnt = folder / f"{name}.safetensors"
    file = parse((learnt if learnt.exists() else PACKAGED / learnt.name).read_bytes())
    results_file = folder / "results.json"
    results = json.loads(results_file.read_text(encoding="utf-8")) if results_file.exists() else {}
    identity = _identity(file)
    if results.get(name, {}).get("scored") != identity:
        recipe = RECIPES[DESIGNS[name].shows if name in DESIGNS else name]
        results[name] = {"scored": identity, **_scored(name, file, recipe, data, url)}
        results_file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    metrics = {f"test_{metric}": value for metric, value in results[name]["test"].items()}
    known = {key: value for key, value in file.metadata.metrics.items() if not key.startswith("test_")}
    scored = build(file.prompt, replace(file.metadata, metrics={**known, **metrics}))
    (folder / f"{name}.safetensors").write_bytes(scored.data)
    _publish(name, scored, url)
    found: dict[str, Any] = results[name]
    return found


def _identity(file: PromptFile) -> str:
    """What the answers depend on: tensors and metadata, less the metrics."""
    bare = build(file.prompt, replace(file.metadata, metrics={}))
    return hashlib.sha256(bare.data).hexdigest()


def _scored(name: str, file: PromptFile, recipe: Recipe, data: Path, url: str | None) -> dict[str, Any]:
    _publish(name, file, url)
    parts = split(data, recipe.data_set)
    test = [recipe.example(row) for row in parts.test]
    groups = group(test)
    found: dict[str, Any] = {"kind": file.metadata.kind, "rows": len(test), "inputs": len(groups)}
    if recipe.labels is not None:
        answers = _ask(name, groups, url, label=True)
        by_input = dict(zip((one.inputs[recipe.source] for one in groups), answers, strict=True))
        hits = sum(by_input[one.inputs[recipe.source]] == one.target for one in test)
        most, _ = Counter(recipe.example(row).target for row in parts.train).most_common(1)[0]
        majority = sum(one.target == most for one in test)
        return {**found, "test": {"accuracy": hits / len(test)}, "majority": majority / len(test)}
    answers = _ask(name, groups, url, label=False)
    references = [one.references for one in groups]
    found["test"] = {metric: METRICS[metric](answers, references) for metric in recipe.metrics}
    copied = [_first_sentence(one.inputs[recipe.source]) for one in groups]
    found["first_sentence_of_input"] = {metric: METRICS[metric](copied, references) for metric in recipe.metrics}
    found["samples"] = [
        {"input": one.inputs[recipe.source], "answer": answer, "reference": one.references[0]}
        for one, answer in list(zip(groups, answers, strict=True))[:: max(len(groups) // 3, 1)][:3]
    ]
    return found


def _ask(name: str, groups: Sequence[Group], url: str | None, *, label: bool) -> list[str]:
    """One answer for each distinct input, in order: the likeliest label, or a text."""
    answers: list[str] = []
    with asking(url) as client:
        for start in track(range(0, len(groups), AT_ONCE), description=name):
            inputs = [one.inputs for one in groups[start : start + AT_ONCE]]
            responses = (
                client.classify_many([{"task": name, "inputs": one} for one in inputs])
                if label
                else client.generate_many([{"task": name, "inputs": one} for one in inputs])
            )
            for response in responses:
                if "error" in response:
                    fail(f"{name}: {response['error']['code']}: {response['error']['message']}")
                answers.append(response["label"] if "label" in response else response["generated_text"])
    return answers


def _publish(name: str, file: PromptFile, url: str | None) -> None:
    with asking(url) as client:
        client.tasks.publish(name, file.data)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
