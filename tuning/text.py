"""The two methods that write text and learn no numbers: `design` and `hard`, as a task that can be served.

Knows examples, a base and the search; no command line.
"""

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from prompt_store.metadata import Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, build
from prompt_store.template import Template
from tuning.base import FrozenBase, Interrupted
from tuning.design import designed, exemplars, is_plain
from tuning.encoding import Encoder, UnfitError, encode
from tuning.evaluation import Reading, judge
from tuning.examples import DataError, Example
from tuning.hard import Budget, Hard, Round
from tuning.hotflip import HotFlip
from tuning.learn import Settings, digest, spoken, without_slots
from tuning.plan import Evaluated, Figures, Unsaved
from tuning.remembering import Remembering
from tuning.scorer import BaseScorer, Scorer

TextName = Literal["design", "hard"]
TEXT_METHODS: tuple[TextName, ...] = ("design", "hard")
STOP = ("\n",)
"""Where an answer ends: a base that has learnt nothing of the task goes on with another example."""

_NAMED = ("template", "labels", "target_delimiter", "metric")
_TOLD = {"design": ("instructions", "shots"), "hard": ("instructions", "budget", "hotflip")}


@dataclass(frozen=True, slots=True)
class TextSettings:
    """`instructions` stand in front. `design`: of `draws` draws of `shots` exemplars the best is kept.

    `hard`: the instructions are where the search begins; `hotflip` adds proposals from the base's gradient.
    """

    instructions: str = ""
    shots: int = 4
    draws: int = 12
    budget: Budget = field(default_factory=Budget)
    hotflip: bool = False


@dataclass(slots=True)
class TextTask:
    """Iterate `events` (`Evaluated` for a draw, `hard.Round` for a round), then ask for the rest.

    `scorer`: who reads the candidates; by default the base itself.
    """

    base: FrozenBase
    method: TextName
    settings: Settings
    told: TextSettings
    train: Sequence[Example]
    held_out: Sequence[Example]
    seed: int = 0
    scorer: Scorer | None = None
    template: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    _asking: Remembering | None = None

    def events(
        self, checkpoint: Path | None = None, resume: bool = False, save_seconds: float = 60.0
    ) -> Iterator[Evaluated | Round | Unsaved]:
        """`checkpoint`: where it is kept on the way; `resume` goes on from there, and tells only what is new.

        Raises DataError where not a single candidate fits the base's context, CheckpointError.
        """
        began = time.monotonic()
        if checkpoint is None:
            yield from self._events()
            self.seconds = time.monotonic() - began
            return
        self._asking = Remembering(self._scorer, checkpoint, self._identity, save_seconds)
        if resume:
            self._asking.resume()
        try:
            for event in self._events():
                if not self._asking.again:
                    yield event
                if self._asking.unsaved is not None:
                    yield Unsaved(self._asking.unsaved)
                    self._asking.unsaved = None
        except Interrupted as stopped:
            stopped.unsaved = self._asking.save()
            raise
        if (reason := self._asking.save()) is not None:
            yield Unsaved(reason)
        self.seconds, self._asking = self._asking.seconds, None

    def _events(self) -> Iterator[Evaluated | Round]:
        yield from self._draws() if self.method == "design" else self._rounds()
        self.figures = self.measure(self.held_out, [self.settings.metric]).named

    def _draws(self) -> Iterator[Evaluated]:
        best: Figures | None = None
        tokenize = self.base.tokenizer.encode
        plain = [one for one in self.train if is_plain(one, tokenize)]
        for draw in range(self.told.draws):
            rng = random.Random(f"design/{self.seed}/{draw}")
            chosen = exemplars(plain, self.settings.labels, self.told.shots, rng)
            template = designed(self.told.instructions, self._line, chosen, self.settings.target_delimiter)
            try:
                found = self.measure(self.held_out, [self.settings.metric], template)
            except UnfitError:  # exemplars too long for the context
                continue
            kept = best is None or found.order > best.order
            if kept:
                best, self.template = found, template
            self.curve.append({"step": draw + 1, "figures": found.named, "best": kept})
            yield Evaluated(draw + 1, None, found.named, kept)
        if best is None:
            raise DataError(f"no draw of {self.told.shots} exemplars fits the base's context of {self.base.context}")

    def _rounds(self) -> Iterator[Round]:
        encoder = self._encoder(self._line)
        flip = HotFlip(self.base, encoder, self._line, self.train, seed=self.seed) if self.told.hotflip else None
        search = Hard(
            self._scorer, encoder, self.base.context, self._line, self.told.instructions, self.train, self.held_out,
            self.told.budget, self.seed, flip,
        )  # fmt: skip
        for round_ in search.rounds():
            self.curve.append({"step": round_.scored, "figures": round_.figures, "best": round_.accepted})
            yield round_
        self.template = search.template(search.best.instruction)
        self.began = search.began.held_out.named

    @property
    def _line(self) -> str:
        return without_slots(self.settings.template)

    @property
    def _scorer(self) -> Scorer:
        return self._asking or self.scorer or BaseScorer(self.base)

    @property
    def _identity(self) -> dict[str, Any]:
        """What the questions depend on. How many there may be is not in it: a longer search goes on."""
        settings, told = self.settings, asdict(self.told)
        del told["budget"]["scored"]
        own = {name: told[name] for name in _TOLD[self.method]}
        spoken = () if settings.labels else ("max_new_tokens",)
        named = {name: getattr(settings, name) for name in (*_NAMED, *spoken)}
        examples = digest([self.train, self.held_out])
        found = {**named, "method": {self.method: own}, "seed": self.seed}
        return {**json.loads(json.dumps(found)), "base": self.base.base.fingerprint, "examples": examples}

    def _encoder(self, template: str) -> Encoder:
        settings, tokenizer = self.settings, self.base.tokenizer
        parsed = Template.parse(template, "text", 0)
        return Encoder(
            parsed, settings.target_delimiter, tokenizer.encode, tokenizer.bos, self.base.ends[0], settings.labels
        )

    def measure(self, examples: Sequence[Example], metrics: Sequence[str], template: str | None = None) -> Figures:
        """Of the text found, or another, on other examples."""
        reading = Reading(self._encoder(template or self.template), self.base.context)
        speaking = replace(self.settings.speaking(self.base), stop=STOP)
        return judge(examples, reading, metrics, speaking).by(self._scorer)

    def prompt_file(self) -> PromptFile:
        """A text task: it fits any base."""
        settings = self.settings
        metadata = Metadata(
            kind="text",
            length=0,
            template=self.template,
            target_delimiter=settings.target_delimiter,
            labels=settings.labels,
            defaults={**self._spoken, **settings.defaults, "stop": list(STOP)},
            description=settings.description,
            metrics={f"held_out_{name}": value for name, value in self.figures.items()},
            tuning={"method": self.method, "seed": self.seed},
        )
        return build(SoftPrompt("text", 0, {}), metadata)

    @property
    def _spoken(self) -> dict[str, int]:
        if self.settings.labels is None:
            return {}
        return {"max_new_tokens": spoken(encode(self.held_out[:1], self._encoder(self.template), self.base.context))}

    def report(self) -> dict[str, Any]:
        """JSON: what was found, and the way there."""
        return {
            "method": self.method,
            "template": self.template,
            "best": self.figures,
            "began": self.began,
            "curve": self.curve,
        }
