"""What each demo task is and how it is learnt: data, words, template, plan. Knows no files, no model and no server.

Label words are single tokens of a small vocabulary where a fitting one exists: such labels need one forward pass, and
a small base tells them apart best. The words are the task's labels: what `/classify` answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuning.datasets import Row
from tuning.examples import Example
from tuning.learn import Settings
from tuning.methods import Options
from tuning.plan import Plan

CHOOSING = Plan(
    "labels", steps=3000, batch_size=32, learning_rate=1.0, evaluate_every=100, patience=20, precision="bfloat16"
)
WRITING = Plan("lm", steps=3000, batch_size=16, learning_rate=1.0, evaluate_every=250, patience=8, precision="bfloat16")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One demo. `source` is the row's input and the template's only field, `target` the row's answer.

    `words`: class name -> the label that stands for it; None for free text. `metrics` are scored on the test part; the
    first also decides which rows are kept while learning.
    """

    data_set: str
    source: str
    target: str
    template: str
    length: int
    description: str
    plan: Plan = CHOOSING
    metrics: tuple[str, ...] = ("accuracy",)
    words: Mapping[str, str] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...] | None:
        return None if self.words is None else tuple(self.words.values())

    def example(self, row: Row) -> Example:
        answer = row[self.target]
        return Example({self.source: row[self.source]}, answer if self.words is None else self.words[answer])

    def settings(self) -> Settings:
        return Settings(
            template=self.template,
            plan=self.plan,
            labels=self.labels,
            length=self.length,
            options=Options(init="vocabulary" if self.labels is None else "labels"),
            metric=self.metrics[0],
            max_new_tokens=int(self.defaults.get("max_new_tokens", 1)),
            description=self.description,
            defaults=self.defaults,
        )

    def fine_tuned(self) -> Settings:
        """The yardstick: every weight learns the same task from the same text, without pseudo-tokens."""
        plan = replace(self.plan, learning_rate=5e-4, patience=4)
        template = f"{{{self.source}}}\n"
        return replace(self.settings(), method="fine_tuning", template=template, length=0, plan=plan)


RECIPES: Mapping[str, Recipe] = {
    "intent": Recipe(
        "snips",
        "text",
        "intent",
        "{soft:10}{text}{soft:10}",
        20,
        "What a spoken request wants, of seven intents (SNIPS).",
        plan=replace(CHOOSING, steps=1000),
        words={
            "AddToPlaylist": "playlist",
            "BookRestaurant": "restaurant",
            "GetWeather": "weather",
            "PlayMusic": "music",
            "RateBook": "book",
            "SearchCreativeWork": "work",
            "SearchScreeningEvent": "movie",
        },
    ),
    "domain": Recipe(
        "clinc150",
        "text",
        "domain",
        "{soft:20}{text}\nIt is about{soft:20}",
        40,
        "What a question to an assistant is about, of ten domains (CLINC150).",
        words={
            "banking": "bank",
            "credit cards": "card",
            "kitchen": "food",
            "home": "home",
            "car": "car",
            "travel": "travel",
            "utility": "time",
            "work": "work",
            "small talk": "talk",
            "meta": "name",
        },
    ),
    "sentiment": Recipe(
        "rt_polarity",
        "text",
        "label",
        "{soft:20}{text}{soft:20}",
        40,
        "Whether a sentence of a film review is good or bad about it (rt-polarity).",
        words={"negative": "bad", "positive": "good"},
    ),
    "subjectivity": Recipe(
        "subj",
        "text",
        "label",
        "{soft:20}{text}{soft:20}",
        40,
        "Whether a sentence on a film tells its story or gives an opinion (subj).",
        words={"objective": "story", "subjective": "opinion"},
    ),
    "restaurant": Recipe(
        "e2e_nlg",
        "mr",
        "ref",
        "{soft:20}{mr}\n{soft:20}",
        40,
        "A sentence about a restaurant from its attributes (E2E).",
        plan=WRITING,
        metrics=("bleu", "chrf", "rouge_l"),
        defaults={"max_new_tokens": 80},
    ),
    "dialogue": Recipe(
        "sgd",
        "acts",
        "text",
        "{soft:20}{acts}\n{soft:20}",
        40,
        "What an assistant says to perform dialogue acts (schema-guided dialogues).",
        plan=replace(WRITING, steps=1500),
        metrics=("bleu", "chrf", "rouge_l"),
        defaults={"max_new_tokens": 80},
    ),
    "summary": Recipe(
        "scitldr",
        "doc",
        "summary",
        "{soft:40}{doc} Summary:",
        40,
        "One sentence for the abstract of a paper (SciTLDR).",
        plan=replace(WRITING, steps=500, batch_size=8, evaluate_every=125),
        metrics=("rouge_l",),
        defaults={"max_new_tokens": 60},
    ),
}


@dataclass(frozen=True, slots=True)
class Design:
    """A text task that shows what instructions and exemplars alone do for the task `shows`. `line`: `{text}` to end."""

    shows: str
    instructions: str
    line: str
    description: str


DESIGNS: Mapping[str, Design] = {
    "intent-design": Design(
        "intent",
        "Say what each request is about: {labels}.",
        "Request: {text}\nAbout:",
        "The intents of `intent` by instructions and exemplars alone: nothing is learnt.",
    )
}
