"""Learn tasks: examples and settings in, events on the way, a prompt file and a report out; several at once in a sweep.

The way through the room, top to bottom: encode, begin, train, build the file. Knows no command line, no HTTP and no
data set by name.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from prompt_store.metadata import Kind, Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, Tensor, build
from prompt_store.template import PART, Template, bad_template
from tuning.base import FrozenBase
from tuning.checkpoint import RUNS
from tuning.encoding import Encoded, Encoder, Encodings
from tuning.evaluation import Reading, Speaking, judge
from tuning.examples import DataError, Example
from tuning.methods import METHODS, MethodName, Options, Start, lacking
from tuning.plan import Diverged, DivergedError, Evaluation, Event, Plan
from tuning.run import Run
from tuning.soft import Soft
from tuning.training import Training

HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 500


@dataclass(frozen=True, slots=True)
class Settings:
    """What the task is and how its prompt is learnt. `length` counts all pseudo-tokens, those in slots included.

    Slots of the template are for methods that learn rows of the text; for all others they are left out.
    """

    template: str
    plan: Plan
    method: MethodName = "prompt_tuning"
    labels: tuple[str, ...] | None = None
    target_delimiter: str = " "
    length: int = 20
    options: Options = field(default_factory=Options)
    metric: str = "accuracy"
    max_new_tokens: int = 64
    description: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind | None:
        """What it is served as; None for a yardstick."""
        return METHODS[self.method].kind

    @property
    def text(self) -> str:
        """The template as this method has it."""
        return self.template if self.kind == "embeddings" else without_slots(self.template)

    def speaking(self, base: FrozenBase) -> Speaking:
        """How it answers in free text."""
        return Speaking(self.max_new_tokens, base.tokenizer.decode, tuple(self.defaults.get("stop", ())))


def without_slots(template: str) -> str:
    """The same text without pseudo-tokens, nor the spaces in front of one that ended it (docs/decisions/0009)."""
    if not PART.search(template) or template.endswith(" "):
        return template
    return PART.sub(lambda match: "" if match["soft"] else match[0], template).rstrip(" ")


def spoken(examples: Sequence[Encoded]) -> int:
    """Ids of the longest answer: labels have no end, so a generated one is as long as that."""
    return max(len(answer) for one in examples for answer in one.answers)


def hold_out(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(train, held out): a tenth of the distinct inputs, at most 500, by their hash. No input is on both sides.

    Raises DataError for fewer than two inputs.
    """
    own = [_key(example) for example in examples]
    keys = set(own)
    if len(keys) < 2:
        raise DataError("at least two different inputs are needed: one to learn from, one to hold out")
    count = min(max(round(len(keys) * HELD_OUT_SHARE), 1), HELD_OUT_MOST, len(keys) - 1)
    held = set(sorted(keys)[:count])
    return (
        [example for example, key in zip(examples, own, strict=True) if key not in held],
        [example for example, key in zip(examples, own, strict=True) if key in held],
    )


def _key(example: Example) -> str:
    return hashlib.sha256(json.dumps(example.inputs, sort_keys=True).encode()).hexdigest()


class Tuning:
    """One run of one method. Iterate `events` to the end, then ask for `prompt_file` and `report`.

    `encodings`: shared by the runs of a sweep.
    Raises ValueError for settings that the base cannot hold, DataError for rows that do not fit, and PromptError for
    what the format does not take and for a template that ends in a space:
    it would be learnt as the answer's first and served as the prompt's last (docs/decisions/0009).
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a run is made of
        self,
        base: FrozenBase,
        settings: Settings,
        train: Sequence[Example],
        held_out: Sequence[Example],
        name: str = "",
        encodings: Encodings | None = None,
    ) -> None:  # fmt: skip
        reason = lacking(base, settings.method)
        if reason is not None:
            raise ValueError(reason)
        self._base = base
        self._settings = settings
        self._encoder = encoder_for(base, settings)
        self._encode = encodings or Encodings()
        examples = self._encode(train, self._encoder, base.context)
        prompts = [one.prompt for one in examples]
        start = Start(
            base, settings.options, settings.length, prompts, settings.labels, settings.target_delimiter,
            settings.plan.seed,
        )  # fmt: skip
        self._method = METHODS[settings.method].begin(start)
        evaluation = self.judge(held_out, [settings.metric])
        self.run = Run(self._method, settings.plan, examples, evaluation, name)
        self.identity = {
            "settings": json.loads(json.dumps(asdict(settings))),
            "base": base.base.fingerprint,
            "examples": digest([train, held_out]),
        }
        self._spoken = {"max_new_tokens": spoken(examples)} if settings.plan.objective == "labels" else {}
        self._counts = {"train_rows": len(train), "held_out_rows": len(held_out)}
        if self.served:
            self.draft()  # what the format would refuse is said now, not after hours

    def events(self, checkpoint: Path, resume: bool = False, save_seconds: float = 60.0) -> Iterator[Event]:
        """Learn. `resume` goes on from the checkpoint where there is one; it must be of the same settings and data.

        Raises DivergedError.
        """
        for event in Sweep(self._base, [self]).events(checkpoint, resume, save_seconds):
            if isinstance(event, Diverged):
                raise DivergedError(f"the loss is not finite at step {event.step}: a lower learning rate may help")
            yield event

    def prompt_file(self) -> PromptFile:
        """The best soft prompt as one file, its metrics those of the held-out slice. The same run, the same bytes.

        Raises ValueError for a yardstick, which cannot be served.
        """
        return self._file({f"held_out_{name}": value for name, value in self.best_figures.items()})

    @property
    def served(self) -> bool:
        """Whether there will be a prompt file; a yardstick has none."""
        return self._settings.kind is not None

    def draft(self) -> PromptFile:
        """The prompt file as it is now, without figures. Raises ValueError for a yardstick."""
        return self._file({})

    def _file(self, metrics: Mapping[str, float]) -> PromptFile:
        settings = self._settings
        if settings.kind is None:
            raise ValueError(f"what {settings.method} learns is no soft prompt")
        length = settings.length
        metadata = Metadata(
            kind=settings.kind,
            length=length,
            template=settings.text,
            target_delimiter=settings.target_delimiter,
            labels=settings.labels,
            defaults={**self._spoken, **settings.defaults},
            base=self._base.base,
            description=settings.description,
            metrics=metrics,
            tuning={**self._summary, **self._counts},
        )
        return build(SoftPrompt(settings.kind, length, _tensors(settings.kind, self._method.soft())), metadata)

    @property
    def best_figures(self) -> dict[str, float]:
        """Of the evaluation that was kept."""
        progress = self.run.progress
        found: dict[str, float] = next(e["figures"] for e in progress.curve if e["step"] == progress.best_step)
        return found

    @property
    def learnt(self) -> int:
        """How many numbers a file or a copy of what was learnt holds; encoders that are thrown away do not count."""
        if self._settings.kind is None:
            return sum(parameter.numel() for parameter in self.run.parameters.values())
        return sum(int(np.prod(t.shape)) for t in _tensors(self._settings.kind, self._method.soft()).values())

    def report(self) -> dict[str, Any]:
        """JSON: settings, counts, what was kept, and the whole curve."""
        progress = self.run.progress
        return {
            **self.identity,
            **self._counts,
            "learnt_numbers": self.learnt,
            "learnt_share": self.learnt / self._base.parameters,
            "steps": progress.step,
            "best_step": progress.best_step,
            "trained_tokens": self.run.trained_tokens,
            "best": self.best_figures,
            "curve": progress.curve,
        }

    @property
    def _summary(self) -> dict[str, Any]:
        plan, settings = self._settings.plan, self._settings
        return {
            "method": settings.method,
            "objective": plan.objective,
            "init": settings.options.init,
            "learning_rate": plan.learning_rate,
            "batch_size": plan.batch_size,
            "steps": self.run.progress.best_step,
            "seed": plan.seed,
        }

    @property
    def soft(self) -> Soft:
        """As it is now."""
        return self._method.soft()

    def measure(self, examples: Sequence[Example], metrics: Sequence[str]) -> dict[str, float]:
        """Figures of what was learnt, on other examples."""
        return self.judge(examples, metrics)(self._base, self._method.soft()).named

    def judge(self, examples: Sequence[Example], metrics: Sequence[str]) -> Evaluation:
        """What measures any soft prompt that stands where this one does."""
        settings, base = self._settings, self._base
        reading = Reading(replace(self._encoder, labels=settings.labels), base.context, self._encode)
        return judge(examples, reading, metrics, settings.speaking(base))


class Sweep:
    """Runs that learn together on one frozen base, whatever their tasks, lengths, seeds and rates.

    Each learns what it would alone. Raises ValueError for runs that cannot share a pass.
    """

    def __init__(self, base: FrozenBase, tunings: Sequence[Tuning]) -> None:
        self.tunings = tunings
        self._training = Training(base, [one.run for one in tunings])

    def events(self, checkpoint: Path, resume: bool = False, save_seconds: float = 60.0) -> Iterator[Event]:
        """Learn; `resume` as for one. A run whose loss is not finite any more ends, and says so."""
        identity = {RUNS: {one.run.name: one.identity for one in self.tunings}}
        if resume:
            self._training.resume(checkpoint, identity)
        yield from self._training.run(checkpoint, identity, save_seconds)


def _tensors(kind: Kind, soft: Soft) -> dict[str, Tensor]:
    """By their names in a file."""
    if kind == "prefix" and soft.deep is not None:
        found = dict(zip(("key", "value"), soft.deep, strict=True))
    elif kind == "adapter" and soft.side is not None:
        found = dict(zip(("prompts", "gate"), soft.side, strict=True))
    else:
        found = {"embeddings": soft.rows}
    return {
        name: Tensor.from_float32(np.ascontiguousarray(tensor.detach().cpu().numpy().astype(np.float32)))
        for name, tensor in found.items()
    }


def encoder_for(base: FrozenBase, settings: Settings) -> Encoder:
    """From rows to ids. Raises ValueError and PromptError for settings that the base cannot hold."""
    if settings.max_new_tokens >= base.context:
        raise ValueError(f"answers of {settings.max_new_tokens} tokens do not fit the base's context of {base.context}")
    if settings.length > base.context:
        raise ValueError(f"{settings.length} pseudo-tokens do not fit the base's context of {base.context}")
    if settings.template.endswith(" "):
        raise bad_template("a template to learn may not end in a space: say it with the target delimiter")
    kind = settings.kind or "text"
    template = Template.parse(settings.text, kind, settings.length if settings.kind else 0)
    labels = settings.labels if settings.plan.objective == "labels" else None
    tokenize, bos = base.tokenizer.encode, base.tokenizer.bos
    deep = settings.length if kind == "prefix" else 0
    return Encoder(template, settings.target_delimiter, tokenize, bos, base.ends[0], labels, deep)


def digest(parts: Sequence[Sequence[Example]]) -> str:
    """Of all rows of all parts, in order."""
    rows = [[[dict(example.inputs), example.target] for example in part] for part in parts]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
