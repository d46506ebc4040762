"""What a run is told and what it tells: the plan, the events on the way, the figures of an evaluation.

Plain values; knows no tensors.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tuning.base import FrozenBase
from tuning.objective import Objective
from tuning.soft import Soft

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast. `learning_rate` is Adam's step in the method's units, `patience` counts evaluations.

    `precision` is that of the matrix products while learning; what is learnt and every evaluation stay in float32.
    """

    objective: Objective
    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 1.0
    warmup: int = 50
    evaluate_every: int = 100
    patience: int = 10
    seed: int = 0
    precision: Precision = "float32"

    def scale(self, step: int) -> float:
        """Of the learning rate: linear warm-up, over half of the steps at most, then linear decay to zero."""
        warmup = min(self.warmup, self.steps // 2)
        return min((step + 1) / max(warmup, 1), (self.steps - step) / max(self.steps - warmup, 1), 1.0)


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step of a run is done: its loss, and what a progress bar shows. `run`: its name among several."""

    step: int
    steps: int
    loss: float
    examples_per_second: float
    seconds_left: float
    run: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation: `train_loss` is the mean since the last, None before a step; `best` says that this is kept."""

    step: int
    train_loss: float | None
    figures: dict[str, float]
    best: bool
    run: str = ""


@dataclass(frozen=True, slots=True)
class Diverged:
    """The loss of a run is not finite any more; the others go on."""

    step: int
    run: str = ""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A checkpoint could not be written. The run goes on: what it learns matters more."""

    reason: str
    run: str = ""


Event = Step | Evaluated | Diverged | Unsaved


class DivergedError(Exception):
    """The loss is not finite any more."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What an evaluation found. `order` compares two of them: the first element decides, then the next."""

    named: dict[str, float]
    order: tuple[float, ...]


class Evaluation(Protocol):
    def __call__(self, base: FrozenBase, soft: Soft) -> Figures:
        """Measure a soft prompt on held-out examples."""


@dataclass(slots=True)
class Progress:
    """The numbers of a run that a checkpoint keeps beside the tensors."""

    step: int = 0
    best_step: int = 0
    best_order: list[float] = field(default_factory=list)
    since_best: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    diverged: bool = False
    seconds: float = 0.0
    """Its share of the time that the runs beside it took together."""
