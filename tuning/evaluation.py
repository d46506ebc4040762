"""Held-out figures: label likelihood for closed sets, greedy answers against all references for free text.

Knows ids, texts and metrics; not what learns, and whose pass over the base it is only as a `Scorer`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

from tuning.base import FrozenBase
from tuning.encoding import Encoded, Encoder, encode
from tuning.examples import Example
from tuning.metrics import METRICS, rank
from tuning.plan import Figures
from tuning.scorer import BaseScorer, Scorer
from tuning.soft import Soft


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


def cross_entropy(likelihoods: Sequence[float], right: int) -> float:
    """Of the right answer among all, in nats."""
    most = max(likelihoods)
    return most + log(sum(exp(one - most) for one in likelihoods)) - likelihoods[right]


@dataclass(frozen=True, slots=True)
class Reading:
    """How examples become ids, and how many of them the base takes. `encode`: or one that remembers."""

    encoder: Encoder
    context: int
    encode: Callable[[Sequence[Example], Encoder, int], list[Encoded]] = encode

    def __call__(self, examples: Sequence[Example]) -> list[Encoded]:
        return self.encode(examples, self.encoder, self.context)


class LabelEvaluation:
    """Accuracy by label likelihood, as `/classify` decides; the loss breaks ties."""

    def __init__(self, examples: Sequence[Encoded]) -> None:
        self._examples = examples

    def __call__(self, base: FrozenBase, soft: Soft) -> Figures:
        return self.by(BaseScorer(base, soft))

    def by(self, scorer: Scorer) -> Figures:
        return of_labels(scorer.likelihoods(self._examples), self._examples)


def of_labels(likelihoods: Sequence[Sequence[float]], examples: Sequence[Encoded]) -> Figures:
    """Figures of what a scorer found; the first of equal labels counts, as /classify sorts them."""
    pairs = list(zip(likelihoods, examples, strict=True))
    hits = sum(max(range(len(found)), key=found.__getitem__) == one.right for found, one in pairs)
    mean = sum(cross_entropy(found, one.right) for found, one in pairs) / len(pairs)
    return Figures({"accuracy": hits / len(pairs), "loss": mean}, (hits / len(pairs), -mean))


@dataclass(frozen=True, slots=True)
class Speaking:
    """How free text is answered, as the server would: so many ids at most, up to the first of `stop`."""

    max_new_tokens: int
    decode: Callable[[list[int]], str]
    stop: tuple[str, ...] = ()

    def text(self, ids: list[int], delimiter: str) -> str:
        """What a client would read."""
        said = self.decode(ids)
        ends = [at for at in map(said.find, self.stop) if at >= 0]
        return said[: min(ends, default=len(said))].removeprefix(delimiter)


class TextEvaluation:
    """Metrics of greedy answers, all references of each input. The first decides, the references' loss breaks ties."""

    def __init__(
        self, examples: Sequence[Example], reading: Reading, metrics: Sequence[str], speaking: Speaking
    ) -> None:
        self.groups = group(examples)
        firsts: dict[tuple[tuple[str, str], ...], Example] = {}
        for one in examples:
            firsts.setdefault(tuple(one.inputs.items()), one)
        self._prompts = reading(list(firsts.values()))
        self._delimiter = reading.encoder.delimiter
        self._metrics = metrics
        self._speaking = speaking

    def __call__(self, base: FrozenBase, soft: Soft) -> Figures:
        return self.by(BaseScorer(base, soft))

    def by(self, scorer: Scorer) -> Figures:
        answers, references = self.answers(scorer), [one.references for one in self.groups]
        nats = -sum(found[0] for found in scorer.likelihoods(self._prompts))
        loss = nats / sum(len(one.answers[0]) for one in self._prompts)
        named = {metric: METRICS[metric](answers, references) for metric in self._metrics}
        return Figures({**named, "loss": loss}, (rank(self._metrics[0], named[self._metrics[0]]), -loss))

    def answers(self, scorer: Scorer) -> list[str]:
        """What is said to each prompt."""
        found = scorer.answers([one.prompt for one in self._prompts], self._speaking.max_new_tokens)
        return [self._speaking.text(ids, self._delimiter) for ids in found]


def judge(
    examples: Sequence[Example], reading: Reading, metrics: Sequence[str], speaking: Speaking
) -> "LabelEvaluation | TextEvaluation":
    """Among labels where the encoder has any, else of free text."""
    if reading.encoder.labels is not None:
        return LabelEvaluation(reading(examples))
    return TextEvaluation(examples, reading, metrics, speaking)
