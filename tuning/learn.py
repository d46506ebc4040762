"""Learn one task's soft prompt: examples and settings in, events on the way, a prompt file and a report out.

The way through the room, top to bottom: encode, first rows, train, build the file. Knows no command line, no HTTP and
no data set by name.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prompt_store.metadata import Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, Tensor, build
from prompt_store.template import Template, bad_template
from tuning import initial
from tuning.base import FrozenBase
from tuning.encoding import Encoded, Encoder, encode
from tuning.evaluation import LabelEvaluation, TextEvaluation, group
from tuning.examples import DataError, Example
from tuning.fine_tuning import FineTuning
from tuning.initial import Init
from tuning.prompt_tuning import Method, PromptTuning
from tuning.training import Evaluated, Evaluation, Plan, Step, Training

MethodName = Literal["prompt_tuning", "fine_tuning"]
HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 500


@dataclass(frozen=True, slots=True)
class Settings:
    """What the task is and how its prompt is learnt. `length` counts all pseudo-tokens, those in slots included."""

    template: str
    plan: Plan
    method: MethodName = "prompt_tuning"
    labels: tuple[str, ...] | None = None
    target_delimiter: str = " "
    length: int = 20
    init: Init = "vocabulary"
    init_text: str = ""
    metric: str = "accuracy"
    max_new_tokens: int = 64
    description: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


def hold_out(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(train, held out): a tenth of the distinct inputs, at most 500, by their hash. No input is on both sides.

    Raises DataError for fewer than two inputs.
    """
    keys = {_key(example) for example in examples}
    if len(keys) < 2:
        raise DataError("at least two different inputs are needed: one to learn from, one to hold out")
    count = min(max(round(len(keys) * HELD_OUT_SHARE), 1), HELD_OUT_MOST, len(keys) - 1)
    held = set(sorted(keys)[:count])
    return (
        [example for example in examples if _key(example) not in held],
        [example for example in examples if _key(example) in held],
    )


def _key(example: Example) -> str:
    return hashlib.sha256(json.dumps(example.inputs, sort_keys=True).encode()).hexdigest()


class Tuning:
    """One run of one method. Iterate `events` to the end, then ask for `prompt_file` and `report`.

    Raises ValueError for settings that the base cannot hold, DataError for rows that do not fit, and PromptError for
    what the format does not take and for a template that ends in a space:
    it would be learnt as the answer's first and served as the prompt's last (docs/decisions/0009).
    """

    def __init__(
        self, base: FrozenBase, settings: Settings, train: Sequence[Example], held_out: Sequence[Example]
    ) -> None:
        self._base = base
        self._settings = settings
        self._encoder = _encoder(base, settings)
        examples = encode(train, self._encoder, base.context)
        self._method = _method(base, settings, examples)
        self._training = Training(
            base, self._method, settings.plan, examples, self._evaluation(held_out, [settings.metric])
        )
        self._identity = {
            "settings": json.loads(json.dumps(asdict(settings))),
            "base": base.base.fingerprint,
            "examples": _digest([train, held_out]),
        }
        self._spoken = _spoken(settings, examples)
        self._counts = {"train_rows": len(train), "held_out_rows": len(held_out)}
        if settings.method == "prompt_tuning":
            self._file({})  # what the format would refuse is said now, not after hours

    def events(self, checkpoint: Path, resume: bool = False, save_seconds: float = 60.0) -> Iterator[Step | Evaluated]:
        """Learn. `resume` goes on from the checkpoint where there is one; it must be of the same settings and data."""
        if resume:
            self._training.resume(checkpoint, self._identity)
        yield from self._training.run(checkpoint, self._identity, save_seconds)

    def prompt_file(self) -> PromptFile:
        """The best rows as one file, its metrics those of the held-out slice. The same run gives the same bytes."""
        return self._file({f"held_out_{name}": value for name, value in self.best_figures.items()})

    def _file(self, metrics: Mapping[str, float]) -> PromptFile:
        settings = self._settings
        rows = self._method.rows().detach().cpu().numpy().astype(np.float32)
        metadata = Metadata(
            kind="embeddings",
            length=settings.length,
            template=settings.template,
            target_delimiter=settings.target_delimiter,
            labels=settings.labels,
            defaults={**self._spoken, **settings.defaults},
            base=self._base.base,
            description=settings.description,
            metrics=metrics,
            tuning={**self._summary, **self._counts},
        )
        return build(SoftPrompt("embeddings", settings.length, {"embeddings": Tensor.from_float32(rows)}), metadata)

    @property
    def best_figures(self) -> dict[str, float]:
        """Of the evaluation that was kept."""
        progress = self._training.progress
        found: dict[str, float] = next(e["figures"] for e in progress.curve if e["step"] == progress.best_step)
        return found

    def report(self) -> dict[str, Any]:
        """JSON: settings, counts, what was kept, and the whole curve."""
        progress = self._training.progress
        return {
            **self._identity,
            **self._counts,
            "steps": progress.step,
            "best_step": progress.best_step,
            "best": self.best_figures,
            "curve": progress.curve,
        }

    @property
    def _summary(self) -> dict[str, Any]:
        plan, settings = self._settings.plan, self._settings
        return {
            "method": settings.method,
            "objective": plan.objective,
            "init": settings.init,
            "learning_rate": plan.learning_rate,
            "batch_size": plan.batch_size,
            "steps": self._training.progress.best_step,
            "seed": plan.seed,
        }

    def measure(self, examples: Sequence[Example], metrics: Sequence[str]) -> dict[str, float]:
        """Figures of the rows as they are now, on other examples."""
        return self._evaluation(examples, metrics)(self._base, self._method.rows()).named

    def _evaluation(self, examples: Sequence[Example], metrics: Sequence[str]) -> Evaluation:
        settings, context = self._settings, self._base.context
        if settings.labels is not None:
            labelled = replace(self._encoder, labels=settings.labels)
            return LabelEvaluation(encode(examples, labelled, context))
        groups = group(examples)
        prompts = encode([Example(one.inputs, one.references[0]) for one in groups], self._encoder, context)
        pairs = [(prompt, one.references) for prompt, one in zip(prompts, groups, strict=True)]
        return TextEvaluation(metrics, pairs, settings.target_delimiter, settings.max_new_tokens)


def _spoken(settings: Settings, examples: Sequence[Encoded]) -> dict[str, int]:
    """Labels are learnt without an end: a generated answer is as long as the longest of them."""
    if settings.plan.objective != "labels":
        return {}
    return {"max_new_tokens": max(len(answer) for one in examples for answer in one.answers)}


def _encoder(base: FrozenBase, settings: Settings) -> Encoder:
    if settings.max_new_tokens >= base.context:
        raise ValueError(f"answers of {settings.max_new_tokens} tokens do not fit the base's context of {base.context}")
    if settings.template.endswith(" "):
        raise bad_template("a template to learn may not end in a space: say it with the target delimiter")
    template = (
        Template.parse(settings.template, "embeddings", settings.length)
        if settings.method == "prompt_tuning"
        else Template.parse(settings.template, "text", 0)
    )
    labels = settings.labels if settings.plan.objective == "labels" else None
    return Encoder(template, settings.target_delimiter, base.tokenizer.encode, base.tokenizer.bos, base.ends[0], labels)


def _method(base: FrozenBase, settings: Settings, examples: Sequence[Encoded]) -> Method:
    if settings.method == "fine_tuning":
        return FineTuning(base)
    if settings.init == "text":
        return PromptTuning(initial.text(base, settings.init_text, settings.length))
    rows = initial.vocabulary(base, [one.prompt for one in examples], settings.length, settings.plan.seed)
    if settings.init == "labels":
        if settings.labels is None:
            raise ValueError("only a task with labels can start from them")
        rows = initial.labels(base, settings.labels, settings.target_delimiter, rows)
    return PromptTuning(rows)


def _digest(parts: Sequence[Sequence[Example]]) -> str:
    rows = [[[dict(example.inputs), example.target] for example in part] for part in parts]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
