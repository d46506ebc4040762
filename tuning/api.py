"""`from tuning import tune`: one call from rows to a prompt file, for notebooks and scripts.

Chooses defaults as the command line does; knows no terminal.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prompt_store.durable import replace_file
from prompt_store.prompt import PromptFile
from prompt_store.template import Template
from tuning.base import FrozenBase
from tuning.defaults import init_for, length_for, metric_for, objective_for
from tuning.examples import DataError, Example, RowError, example, read
from tuning.labels import find
from tuning.learn import Settings, Tuning, hold_out
from tuning.loading import load
from tuning.methods import METHODS, MethodName, Options
from tuning.plan import Event, Plan

Rows = Path | str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What `tune` gives: the prompt file (None for a yardstick), held-out figures, and the report as JSON."""

    file: PromptFile | None
    figures: dict[str, float]
    report: dict[str, Any]
    tuning: Tuning

    def save(self, path: Path | str) -> Path:
        """Writes the prompt file: `softprompt push` or `curl -T` publishes it. Raises ValueError for a yardstick."""
        if self.file is None:
            raise ValueError("a yardstick is not served: there is no prompt file")
        replace_file(Path(path), self.file.data)
        return Path(path)


def tune(  # noqa: PLR0913 - by name, and each with a default
    rows: Rows,
    *,
    model: FrozenBase | Path | str,
    template: str,
    target: str = "target",
    held_out: Rows | None = None,
    method: MethodName = "prompt_tuning",
    labels: str = "auto",
    length: int | None = None,
    steps: int = 1000,
    learning_rate: float | None = None,
    seed: int = 0,
    watch: Callable[[Event], None] | None = None,
    **more: Any,
) -> Learnt:
    """Learn a task's soft prompt.

    rows, held_out: dictionaries of text or a .jsonl or .csv file; without `held_out` a tenth of the inputs is kept
    aside. model: a base, or its directory. `more`: fields of `plan.Plan` and `methods.Options`.

    Raises DataError for rows that cannot be learnt from, PromptError for a template, ValueError for settings that do
    not fit, DivergedError.
    """
    if method not in METHODS:
        raise ValueError(f"method is none of {', '.join(METHODS)}")
    base = model if isinstance(model, FrozenBase) else load(Path(model))
    fields = Template.parse(template, "embeddings", length_for(template, None)).fields
    train = taken(rows, fields, target)
    train, kept = hold_out(train) if held_out is None else (train, taken(held_out, fields, target))
    found = find([*train, *kept], labels)
    told = {name: more.pop(name) for name in list(more) if name in Options.__dataclass_fields__}
    options = Options(**{"init": init_for(found, None), **told})
    rate = learning_rate or METHODS[method].rate_for(options)
    plan = Plan(objective_for(found, None), steps=steps, learning_rate=rate, seed=seed, **more)
    length = length_for(template, length)
    settings = Settings(template, plan, method, found, length=length, options=options, metric=metric_for(found, None))
    tuning = Tuning(base, settings, train, kept)
    with tempfile.TemporaryDirectory() as folder:
        for event in tuning.events(Path(folder) / "checkpoint.safetensors"):
            if watch is not None:
                watch(event)
    file = tuning.prompt_file() if settings.kind is not None else None
    return Learnt(file, tuning.best_figures, tuning.report(), tuning)


def taken(rows: Rows, fields: Sequence[str], target: str) -> list[Example]:
    """Examples of a file or of dictionaries. Raises DataError naming each that is none."""
    if isinstance(rows, Path | str):
        return read(Path(rows), fields, target)
    found: list[Example] = []
    bad: list[tuple[int, RowError]] = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(example(_object(row), fields, target, number))
        except RowError as error:
            bad.append((number, error))
    if bad:
        raise DataError(f"{len(bad)} of {len(rows)} rows cannot be read", bad)
    return found


def _object(row: object) -> object:
    """Whatever is like a dictionary is one."""
    return dict(row) if isinstance(row, Mapping) else row
