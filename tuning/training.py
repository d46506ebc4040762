"""The crank of every method: one forward and backward pass for all runs that learn together. An iterator of events.

Whoever iterates sees the events and may stop at any; what is killed goes on from its checkpoint to the same bytes. The
runs share the frozen base and nothing else: their parameters, batches, rates and ends are their own.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tuning import checkpoint
from tuning.base import FrozenBase, Interrupted
from tuning.crowd import Member, gather
from tuning.encoding import Encoded
from tuning.likelihood import chunks, log_likelihoods
from tuning.objective import size, total
from tuning.plan import Diverged, Event, Progress, Step, Unsaved
from tuning.run import Run


class Training:
    """Iterate to learn. `identity` names everything the result depends on: another's checkpoint is refused."""

    def __init__(self, base: FrozenBase, runs: Sequence[Run]) -> None:
        if len({run.name for run in runs}) < len(runs):
            raise ValueError("runs that learn together need names of their own")
        if len({run.plan.precision for run in runs}) > 1:
            raise ValueError("runs that learn together need one precision")
        if len({id(one) for run in runs for one in run.parameters.values()}) < sum(len(r.parameters) for r in runs):
            raise ValueError("runs that change the base itself learn one at a time")
        self._base = base
        self.runs = runs

    def resume(self, path: Path, identity: dict[str, Any]) -> bool:
        """Go on from the checkpoint; False where there is none. Raises CheckpointError."""
        found = checkpoint.resume(path, identity)
        if found is None:
            return False
        tensors, progress = found
        for run in self.runs:
            first = f"{run.name}/"
            own = {name.removeprefix(first): tensor for name, tensor in tensors.items() if name.startswith(first)}
            try:
                run.restore(own, Progress(**progress[run.name]))
            except (KeyError, TypeError, ValueError, RuntimeError) as error:  # tensors of others, or none
                raise checkpoint.CheckpointError(f"{path.name} holds another run") from error
        return True

    def run(self, path: Path, identity: dict[str, Any], save_seconds: float) -> Iterator[Event]:
        """Learn to the end, with checkpoints at `path`; leaves the best tensors in the methods.

        An interrupted run is saved where it is: nothing moves between the passes of a step.
        """
        try:
            yield from self._run(path, identity, save_seconds)
        except Interrupted as stopped:
            stopped.unsaved = self._save(path, identity)
            raise

    def _run(self, path: Path, identity: dict[str, Any], save_seconds: float) -> Iterator[Event]:
        began = saved = time.monotonic()
        moved = 0
        yield from self._evaluate()
        while active := [run for run in self.runs if not run.done]:
            started = time.monotonic()
            losses = self._crank(active)
            for run in active:
                run.progress.seconds += (time.monotonic() - started) / len(active)
            moved += 1
            left = max(run.plan.steps - run.progress.step for run in active)
            passed = time.monotonic() - began
            rate = moved * sum(run.plan.batch_size for run in active) / passed
            for run, found in zip(active, losses, strict=True):
                if run.progress.diverged:
                    yield Diverged(run.progress.step, run.name)
                else:
                    yield Step(run.progress.step, run.plan.steps, found, rate, left * passed / moved, run.name)
            yield from self._evaluate()
            if time.monotonic() - saved > save_seconds:
                yield from self._kept(path, identity)
                saved = time.monotonic()
        yield from self._kept(path, identity)
        for run in self.runs:
            run.take_best()

    def _evaluate(self) -> Iterator[Event]:
        for run in self.runs:
            if run.to_evaluate:
                yield run.evaluate(self._base)

    def _crank(self, active: Sequence[Run]) -> list[float]:
        """One step of each; what they share is the base's passes. A run whose loss is not finite has ended."""
        batch = {index: run.batch() for index, run in enumerate(active)}
        for run in active:
            run.clear()
        with self._precision(active[0]):
            crowd = gather(self._base, [Member(run.method.soft(), run.head) for run in active])
        parts, back = crowd.cut()
        heads = [len(run.head) for run in active]
        sizes = [size(run.plan.objective, batch[index]) for index, run in enumerate(active)]
        losses = [0.0] * len(active)
        for chunk in chunks(batch, heads, self._base.positions):
            some = {member: [batch[member][row] for row in rows] for member, rows in chunk.items()}
            with self._precision(active[0]):
                found = log_likelihoods(self._base, parts, some, heads)
            self._backward(active, some, found, sizes, losses)
        back()
        for run, loss in zip(active, losses, strict=True):
            if torch.isfinite(torch.tensor(loss)):
                run.move(loss)
            else:
                run.progress.diverged = True
        return losses

    @staticmethod
    def _backward(
        active: Sequence[Run],
        some: dict[int, list[Encoded]],
        found: dict[int, torch.Tensor],
        sizes: Sequence[int],
        losses: list[float],
    ) -> None:
        """Of the finite losses of one pass; adds all to `losses`."""
        shares = []
        for member, likelihoods in found.items():
            share = total(active[member].plan.objective, likelihoods, some[member]) / sizes[member]
            losses[member] += share.item()
            if torch.isfinite(share):
                shares.append(share)
        if shares:
            torch.stack(shares).sum().backward()

    def _precision(self, run: Run) -> torch.autocast:
        return torch.autocast(self._base.device.type, torch.bfloat16, enabled=run.plan.precision == "bfloat16")

    def _kept(self, path: Path, identity: dict[str, Any]) -> Iterator[Event]:
        reason = self._save(path, identity)
        if reason is not None:
            yield Unsaved(reason)

    def _save(self, path: Path, identity: dict[str, Any]) -> str | None:
        tensors = {f"{run.name}/{name}": tensor for run in self.runs for name, tensor in run.tensors().items()}
        progress = {run.name: asdict(run.progress) for run in self.runs}
        return checkpoint.keep(path, tensors, {"identity": identity, "progress": progress})
