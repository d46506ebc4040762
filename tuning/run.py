"""One run of one method: its batches, optimiser, best so far and progress. `training` moves it on.

Knows examples only as ids and quality only as `Evaluation`'s figures; not which others learn beside it.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from tuning import checkpoint
from tuning.base import FrozenBase
from tuning.batches import Batches
from tuning.encoding import Encoded, shared_head
from tuning.method import Method
from tuning.plan import Evaluated, Evaluation, Plan, Progress


class Run:
    """Afterwards `best` holds the tensors of the best evaluation and `progress` the curve."""

    def __init__(
        self, method: Method, plan: Plan, examples: Sequence[Encoded], evaluation: Evaluation, name: str = ""
    ) -> None:
        self.name = name
        self.method = method
        self.plan = plan
        self.examples = examples
        self.evaluation = evaluation
        self.head = shared_head(examples)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self._batches = Batches([one.width for one in examples], plan.batch_size, plan.seed)
        self.parameters = method.parameters()
        self._optimizer = torch.optim.Adam(self.parameters.values(), lr=plan.learning_rate)

    @property
    def done(self) -> bool:
        plan, progress = self.plan, self.progress
        return progress.step >= plan.steps or progress.since_best >= plan.patience or progress.diverged

    @property
    def to_evaluate(self) -> bool:
        progress = self.progress
        if not progress.curve:
            return True
        due = progress.step % self.plan.evaluate_every == 0 or progress.step == self.plan.steps
        return due and not progress.diverged and progress.curve[-1]["step"] < progress.step

    def batch(self) -> list[Encoded]:
        """Of the step to come."""
        return [self.examples[index] for index in self._batches[self.progress.step]]

    @property
    def trained_tokens(self) -> int:
        """Ids of the rows that were learnt from so far: each prompt with its longest answer."""
        return sum(self.examples[row].width for step in range(self.progress.step) for row in self._batches[step])

    def clear(self) -> None:
        """Of gradients."""
        self._optimizer.zero_grad()

    def move(self, loss: float) -> None:
        """One optimiser step along the gradients that there are."""
        progress = self.progress
        for group in self._optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * self.plan.scale(progress.step)
        self._optimizer.step()
        progress.step += 1
        progress.losses.append(loss)

    @torch.no_grad()
    def evaluate(self, base: FrozenBase) -> Evaluated:
        """Of two equal evaluations the first is kept, and none whose figures are no numbers but the very first."""
        progress, started = self.progress, time.monotonic()
        figures = self.evaluation(base, self.method.soft())
        progress.seconds += time.monotonic() - started
        order = list(figures.order)
        best = not progress.best_order or (all(map(math.isfinite, order)) and order > progress.best_order)
        progress.since_best = 0 if best else progress.since_best + 1
        if best:
            progress.best_order, progress.best_step = order, progress.step
            self.best = {name: tensor.detach().clone() for name, tensor in self.parameters.items()}
        losses = progress.losses
        event = Evaluated(
            progress.step, sum(losses) / len(losses) if losses else None, figures.named, best, self.name
        )  # fmt: skip
        losses.clear()
        progress.curve.append({key: value for key, value in asdict(event).items() if key != "run"})
        return event

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint keeps."""
        return {
            **{f"learnt.{name}": tensor for name, tensor in self.parameters.items()},
            **{f"best.{name}": tensor for name, tensor in self.best.items()},
            **checkpoint.moments(self._optimizer),
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Go on from a checkpoint's."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"learnt.{name}"])
        checkpoint.restore(self._optimizer, tensors)
        self.best = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
        self.progress = progress

    @torch.no_grad()
    def take_best(self) -> None:
        """The best tensors become the method's."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])
