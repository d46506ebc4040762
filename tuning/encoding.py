"""Examples as ids: a prompt, the answers that may follow it, and which of them is right.

The ids come from `prompt_store.template.continuations` alone, so training and serving cannot disagree. Knows no
tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, takewhile

from prompt_store.template import Template, Tokenize, continuations
from tuning.examples import DataError, Example


@dataclass(frozen=True, slots=True)
class Encoded:
    """`answers[right]` are the target's ids; free text has one answer, which ends in EOS. Pseudo-token i is ~i.

    Pseudo-tokens that are keys and values, not rows of the text, are not in the prompt.
    """

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    right: int = 0

    @property
    def width(self) -> int:
        """Positions that are fed: of the prompt with its longest answer, EOS included."""
        return len(self.prompt) + max(len(answer) for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one task's examples become ids. `labels` given: every label is an answer, as `/classify` scores them.

    `deep`: how many pseudo-tokens stand in front as keys and values.
    """

    template: Template
    delimiter: str
    tokenize: Tokenize
    bos: int | None
    eos: int
    labels: tuple[str, ...] | None = None
    deep: int = 0

    def __call__(self, example: Example) -> Encoded:
        targets = self.labels or (example.target,)
        prompt, answers = continuations(self.template, example.inputs, self.delimiter, targets, self.tokenize, self.bos)
        ids = prompt.ids[self.deep :]
        if self.labels is None:
            return Encoded(ids, ((*answers[0], self.eos),))
        return Encoded(ids, tuple(answers), self.labels.index(example.target))


class UnfitError(DataError):
    """Rows that this base cannot read behind this template; another template may be shorter."""


def encode(examples: Sequence[Example], encoder: Encoder, context: int) -> list[Encoded]:
    """All examples, or UnfitError naming each line that does not fit the context or has nothing to learn from."""
    encoded = [encoder(example) for example in examples]
    bad = []
    for example, one in zip(examples, encoded, strict=True):
        width = one.width + encoder.deep
        if width > context:
            bad.append((example.line, f"{width} tokens with the answer, the base takes {context}"))
        elif not one.prompt or not all(one.answers):
            bad.append((example.line, "no tokens before the answer, or none in it"))
    if bad:
        raise UnfitError(f"{len(bad)} of {len(encoded)} rows do not fit", bad)
    if encoder.labels is not None and encoded:
        _check_apart(encoded[0].answers)
    return encoded


def _check_apart(answers: Sequence[tuple[int, ...]]) -> None:
    """A label has no end, so one that begins another is never less likely than it. Raises DataError."""
    for longer, shorter in permutations(range(len(answers)), 2):
        if answers[longer][: len(answers[shorter])] == answers[shorter]:
            raise DataError(
                f"label {longer + 1} begins with all of label {shorter + 1}: it could never be chosen; use other words"
            )


class Encodings:
    """What runs of one sweep have in common: rows that are read alike are encoded once. `encode` otherwise."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Encoder, int, int], tuple[Sequence[Example], list[Encoded]]] = {}

    def __call__(self, examples: Sequence[Example], encoder: Encoder, context: int) -> list[Encoded]:
        key = (encoder, id(examples), context)
        if key not in self._kept:
            self._kept[key] = examples, encode(examples, encoder, context)  # kept, so that the id stays theirs
        return self._kept[key][1]


def shared_head(encoded: Sequence[Encoded]) -> tuple[int, ...]:
    """The ids that all prompts begin with, short of any prompt's last: its logits are needed for every one."""
    prompts = [one.prompt for one in encoded]
    same = takewhile(lambda pair: pair[0] == pair[1], zip(min(prompts), max(prompts), strict=False))
    return tuple(token for token, _ in same)[: min(len(prompt) for prompt in prompts) - 1]
