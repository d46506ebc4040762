"""Held-out figures of a run: label likelihood for closed sets, greedy answers against all references for free text.

Knows ids, texts and metrics; not what learns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tuning.base import FrozenBase
from tuning.encoding import Encoded, shared_head
from tuning.examples import Example
from tuning.generation import generate
from tuning.likelihood import of_one
from tuning.metrics import METRICS
from tuning.objective import choice_loss
from tuning.plan import Figures
from tuning.soft import Soft

BATCH = 64


@dataclass(frozen=True, slots=True)
class Group:
    """All different targets that the data gives for one set of inputs."""

    inputs: dict[str, str]
    references: tuple[str, ...]


def group(examples: Sequence[Example]) -> list[Group]:
    """Examples with the same inputs become one, in order of appearance."""
    found: dict[tuple[tuple[str, str], ...], dict[str, None]] = {}
    for example in examples:
        found.setdefault(tuple(example.inputs.items()), {})[example.target] = None
    return [Group(dict(inputs), tuple(references)) for inputs, references in found.items()]


class LabelEvaluation:
    """Accuracy by label likelihood, as `/classify` decides; the loss breaks ties."""

    def __init__(self, examples: Sequence[Encoded]) -> None:
        self._examples = sorted(examples, key=lambda one: one.width)
        self._head = shared_head(examples)

    @torch.no_grad()
    def __call__(self, base: FrozenBase, soft: Soft) -> Figures:
        hits, total = 0, 0.0
        for start in range(0, len(self._examples), BATCH):
            batch = self._examples[start : start + BATCH]
            found = of_one(base, soft, batch, self._head)
            right = torch.tensor([one.right for one in batch], device=found.device)
            hits += int((found.argmax(1) == right).sum())  # the first of equal labels, as /classify sorts them
            total += float(choice_loss(found, batch)) * len(batch)
        accuracy, mean = hits / len(self._examples), total / len(self._examples)
        return Figures({"accuracy": accuracy, "loss": mean}, (accuracy, -mean))


class TextEvaluation:
    """Metrics of greedy answers, several references each. The first decides, the references' loss breaks ties."""

    def __init__(
        self,
        metrics: Sequence[str],
        prompts: Sequence[tuple[Encoded, Sequence[str]]],
        delimiter: str,
        max_new_tokens: int,
    ) -> None:
        self._metrics = metrics
        self._prompts = sorted(prompts, key=lambda pair: len(pair[0].prompt))
        self._delimiter = delimiter
        self._max_new_tokens = max_new_tokens
        self._head = shared_head([one for one, _ in prompts])

    @torch.no_grad()
    def __call__(self, base: FrozenBase, soft: Soft) -> Figures:
        answers: list[str] = []
        nats, tokens = 0.0, 0
        for start in range(0, len(self._prompts), BATCH):
            batch = [one for one, _ in self._prompts[start : start + BATCH]]
            nats -= float(of_one(base, soft, batch, self._head).sum())
            tokens += sum(len(one.answers[0]) for one in batch)
            found = generate(base, soft, [one.prompt for one in batch], self._max_new_tokens, self._head)
            answers += [base.tokenizer.decode(ids).removeprefix(self._delimiter) for ids in found]
        references = [found for _, found in self._prompts]
        named = {metric: METRICS[metric](answers, references) for metric in self._metrics}
        return Figures({**named, "loss": nats / tokens}, (named[self._metrics[0]], -nats / tokens))
