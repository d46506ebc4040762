"""What a job may be told: the methods, each with the settings that it heeds, and what becomes of them.

A setting that a method would ignore is refused. Knows bounds and defaults; no HTTP, no files.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from prompt_store import metadata
from server.parameters import WHOLE, Given, Strict
from tuning.compare import AnyMethod
from tuning.defaults import init_for, length_for, metric_for, objective_for
from tuning.examples import Example
from tuning.hard import MAX_BUDGET, Budget
from tuning.initial import Init
from tuning.labels import find
from tuning.learn import Settings
from tuning.methods import MethodName, Options
from tuning.objective import Objective
from tuning.p_tuning import Encoder
from tuning.plan import Plan, Precision
from tuning.text import TEXT_METHODS, TextSettings

MAX_STEPS = 100_000
MAX_EVALUATIONS = 1000
MAX_TEXT = 4096
"""Characters of instructions and of a text to start from."""

_PLAN, _TEXT = Plan("lm"), TextSettings()
"""What is left out is as the tuner has it."""

Count = Annotated[int, Field(ge=1, le=MAX_STEPS), WHOLE]
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class Measured(Strict):
    """How answers are judged."""

    metric: Given[Annotated[str, Field(max_length=32)]] = None
    max_new_tokens: Annotated[int, Field(ge=1, le=2**16), WHOLE] = 64


class Design(Measured):
    """Of `draws` draws of `shots` examples the best stands in front."""

    instructions: Text = ""
    shots: Annotated[int, Field(ge=1, le=64), WHOLE] = _TEXT.shots
    draws: Annotated[int, Field(ge=1, le=256), WHOLE] = _TEXT.draws


class Hard(Measured):
    """A search for words. `budget`: rows scored in all."""

    instructions: Text = ""
    budget: Annotated[int, Field(ge=1, le=MAX_BUDGET), WHOLE] = _TEXT.budget.scored
    hotflip: bool = False


class Learnt(Measured):
    """What learns by gradient."""

    length: Given[Annotated[int, Field(ge=1, le=metadata.MAX_LENGTH), WHOLE]] = None
    steps: Count = _PLAN.steps
    batch_size: Annotated[int, Field(ge=1, le=1024), WHOLE] = _PLAN.batch_size
    learning_rate: Given[Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]] = None
    warmup: Annotated[int, Field(ge=0, le=MAX_STEPS), WHOLE] = _PLAN.warmup
    evaluate_every: Count = _PLAN.evaluate_every
    patience: Count = _PLAN.patience
    objective: Given[Objective] = None
    precision: Precision = _PLAN.precision
    init: Given[Init] = None
    init_text: Text = ""

    @model_validator(mode="after")
    def _not_too_many_evaluations(self) -> Self:
        if self.steps > MAX_EVALUATIONS * self.evaluate_every:
            raise PydanticCustomError("evaluations", f"a job may be evaluated {MAX_EVALUATIONS} times")
        return self


class PTuning(Learnt):
    """With the encoder that is thrown away."""

    encoder: Encoder = "mlp"


class PrefixTuning(Learnt):
    """`reparametrised`: through an MLP that is thrown away."""

    reparametrised: bool = False


class LlamaAdapter(Learnt):
    """`gate_per_layer`: one for all heads of a layer."""

    gate_per_layer: bool = False


class Data(Strict):
    """How rows become prompts and answers."""

    template: Annotated[str, Field(min_length=1, max_length=metadata.MAX_TEMPLATE_CHARACTERS)]
    target: Annotated[str, Field(min_length=1, max_length=128)] = "target"
    target_delimiter: Annotated[str, Field(max_length=metadata.MAX_DELIMITER_CHARACTERS)] = " "
    labels: (
        Literal["auto", "none"]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=metadata.MAX_LABEL_CHARACTERS)]],
            Field(min_length=2, max_length=metadata.MAX_LABELS),
        ]
    ) = "auto"
    description: Given[Annotated[str, Field(max_length=metadata.MAX_DESCRIPTION_CHARACTERS)]] = None
    hyperparameters: Measured = Field(default_factory=Measured)


class DesignData(Data):
    hyperparameters: Design = Field(default_factory=Design)


class HardData(Data):
    hyperparameters: Hard = Field(default_factory=Hard)


class LearntData(Data):
    hyperparameters: Learnt = Field(default_factory=Learnt)


class PTuningData(Data):
    hyperparameters: PTuning = Field(default_factory=PTuning)


class PrefixData(Data):
    hyperparameters: PrefixTuning = Field(default_factory=PrefixTuning)


class AdapterData(Data):
    hyperparameters: LlamaAdapter = Field(default_factory=LlamaAdapter)


class Method(Strict):
    """`type`, and under the same name what it is to do."""

    type: Literal["design", "hard", "prompt_tuning", "p_tuning", "prefix_tuning", "llama_adapter"]
    design: Given[DesignData] = None
    hard: Given[HardData] = None
    prompt_tuning: Given[LearntData] = None
    p_tuning: Given[PTuningData] = None
    prefix_tuning: Given[PrefixData] = None
    llama_adapter: Given[AdapterData] = None

    @model_validator(mode="after")
    def _told_what_it_is(self) -> Self:
        given = set(self.model_dump(exclude_none=True)) - {"type"}
        if given != {self.type}:
            raise PydanticCustomError("method", "beside type a method has one object, of the same name")
        return self

    @property
    def data(self) -> Data:
        found: Data = getattr(self, self.type)
        return found

    @property
    def rate(self) -> float | None:
        """None: the method's own."""
        told = self.data.hyperparameters
        return told.learning_rate if isinstance(told, Learnt) else None

    def settings(self, rows: Sequence[Example], seed: int) -> Settings:
        """For these rows, held-out ones included. Raises DataError and ValueError."""
        data, told = self.data, self.data.hyperparameters
        labels = find(rows, data.labels)
        learnt = told if isinstance(told, Learnt) else Learnt()
        own: Mapping[str, Any] = told.model_dump(include=set(Options.__dataclass_fields__), exclude={"init"})
        plan = Plan(
            objective_for(labels, learnt.objective), learnt.steps, learnt.batch_size, 0.0, learnt.warmup,
            learnt.evaluate_every, learnt.patience, seed, learnt.precision,
        )  # fmt: skip
        return Settings(
            data.template, plan, "prompt_tuning", labels, data.target_delimiter,
            length_for(data.template, learnt.length), Options(init=init_for(labels, learnt.init), **own),
            metric_for(labels, told.metric), told.max_new_tokens, data.description,
            {} if labels else {"max_new_tokens": told.max_new_tokens},
        )  # fmt: skip

    def text(self) -> TextSettings:
        """For the methods that write text."""
        told = self.data.hyperparameters
        if isinstance(told, Design):
            return TextSettings(told.instructions, told.shots, told.draws)
        if isinstance(told, Hard):
            return TextSettings(told.instructions, budget=Budget(told.budget), hotflip=told.hotflip)
        return TextSettings()

    @property
    def name(self) -> AnyMethod:
        return self.type

    @property
    def learnt(self) -> MethodName | None:
        """None for what writes text."""
        return None if self.type in TEXT_METHODS else cast("MethodName", self.type)
