"""The crank of every method: batches, loss, optimiser, evaluation, best kept, checkpoint. An iterator of events.

Whoever iterates sees the events and may stop at any; a run that is killed goes on from its checkpoint to the same
bytes. Knows examples only as ids and quality only as `Evaluation`'s figures.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from tuning import checkpoint
from tuning.base import FrozenBase
from tuning.batches import Batches
from tuning.encoding import Encoded, shared_head
from tuning.likelihood import log_likelihoods
from tuning.objective import Objective, loss
from tuning.prompt_tuning import Method

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


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step is done: its loss, and what a progress bar shows."""

    step: int
    steps: int
    loss: float
    examples_per_second: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation: `train_loss` is the mean since the last; `best` says that these rows are kept."""

    step: int
    train_loss: float
    figures: dict[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """What an evaluation found. `order` compares two of them: the first element decides, then the next."""

    named: dict[str, float]
    order: tuple[float, ...]


class Evaluation(Protocol):
    def __call__(self, base: FrozenBase, rows: Tensor) -> Figures:
        """Measure the rows on held-out examples."""


@dataclass(slots=True)
class Progress:
    """The numbers of a run that a checkpoint keeps beside the tensors."""

    step: int = 0
    best_step: int = 0
    best_order: list[float] = field(default_factory=list)
    since_best: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)


class DivergedError(Exception):
    """The loss is not finite any more."""


class Training:
    """Iterate to learn. Afterwards `best` holds the tensors of the best evaluation and `progress` the curve.

    `identity` names everything the result depends on: a checkpoint of another identity is refused.
    """

    def __init__(
        self, base: FrozenBase, method: Method, plan: Plan, examples: Sequence[Encoded], evaluation: Evaluation
    ) -> None:
        self._base = base
        self._method = method
        self._plan = plan
        self._examples = examples
        self._evaluation = evaluation
        self._head = shared_head(examples)
        self._batches = Batches([one.width for one in examples], plan.batch_size, plan.seed)
        self._parameters = method.parameters()
        self._optimizer = torch.optim.Adam(self._parameters.values(), lr=plan.learning_rate)
        if plan.precision == "bfloat16":
            base.attend_plainly()
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}

    def resume(self, path: Path, identity: dict[str, Any]) -> bool:
        """Go on from the checkpoint; False where there is none. Raises CheckpointError."""
        try:
            tensors, numbers = checkpoint.read(path)
        except FileNotFoundError:
            return False
        if numbers["identity"] != identity:
            raise checkpoint.CheckpointError(f"{path.name} belongs to a run with other settings or data")
        self._restore(tensors, "learnt")
        checkpoint.restore(self._optimizer, tensors)
        self.best = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
        self.progress = Progress(**numbers["progress"])
        return True

    def run(self, path: Path, identity: dict[str, Any], save_seconds: float) -> Iterator[Step | Evaluated]:
        """Learn to the end, with checkpoints at `path`; leaves the best tensors in the method."""
        plan, progress = self._plan, self.progress
        began = saved = time.monotonic()
        first = progress.step
        if not progress.curve:
            yield self._evaluate()
        while progress.step < plan.steps and progress.since_best < plan.patience:
            found = self._step()
            passed = time.monotonic() - began
            rate = (progress.step - first) / passed
            left = (plan.steps - progress.step) / rate
            yield Step(progress.step, plan.steps, found, rate * plan.batch_size, left)
            if progress.step % plan.evaluate_every == 0 or progress.step == plan.steps:
                yield self._evaluate()
            if time.monotonic() - saved > save_seconds:
                self._save(path, identity)
                saved = time.monotonic()
        self._save(path, identity)
        self._restore(self.best, "")

    def _step(self) -> float:
        progress = self.progress
        batch = [self._examples[index] for index in self._batches[progress.step]]
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.learning_rate * self._scale(progress.step)
        with torch.autocast(self._base.device.type, torch.bfloat16, enabled=self._plan.precision == "bfloat16"):
            likelihoods = log_likelihoods(self._base, self._method.rows(), batch, self._head)
        found = loss(self._plan.objective, likelihoods, batch)
        if not torch.isfinite(found):
            raise DivergedError(f"the loss is not finite at step {progress.step}: a lower learning rate may help")
        self._optimizer.zero_grad()
        found.backward()
        self._optimizer.step()
        progress.step += 1
        progress.losses.append(found.item())
        return progress.losses[-1]

    def _scale(self, step: int) -> float:
        """Linear warm-up, then linear decay to zero."""
        plan = self._plan
        return min((step + 1) / max(plan.warmup, 1), (plan.steps - step) / max(plan.steps - plan.warmup, 1), 1.0)

    @torch.no_grad()
    def _evaluate(self) -> Evaluated:
        progress = self.progress
        figures = self._evaluation(self._base, self._method.rows())
        order = list(figures.order)
        best = not progress.best_order or order > progress.best_order
        progress.since_best = 0 if best else progress.since_best + 1
        if best:
            progress.best_order, progress.best_step = order, progress.step
            self.best = {name: tensor.detach().clone() for name, tensor in self._parameters.items()}
        losses = progress.losses
        event = Evaluated(progress.step, sum(losses) / len(losses) if losses else 0.0, figures.named, best)
        losses.clear()
        progress.curve.append(asdict(event))
        return event

    def _save(self, path: Path, identity: dict[str, Any]) -> None:
        tensors = {
            **{f"learnt.{name}": tensor for name, tensor in self._parameters.items()},
            **{f"best.{name}": tensor for name, tensor in self.best.items()},
            **checkpoint.moments(self._optimizer),
        }
        checkpoint.write(path, tensors, {"identity": identity, "progress": asdict(self.progress)})

    @torch.no_grad()
    def _restore(self, tensors: dict[str, Tensor], prefix: str) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[f"{prefix}.{name}" if prefix else name])
