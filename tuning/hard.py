"""A readable instruction in front of a template, found by search on the metric: no gradient is needed.

Edits of words as in GrIPS (Prasad et al., arXiv 2203.07281): delete, swap, replace and insert spans, the new words
drawn from the data and its labels; a source of `proposals` may offer more (see `hotflip`). Each round judges all
candidates on the same few rows; the best of them is then held against the present instruction on all search rows, and
what is accepted there is kept if it is also the best on held-out rows. The budget counts rows scored. Knows words and a
`Scorer`.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from prompt_store.template import Template
from tuning.design import literal
from tuning.encoding import Encoded, Encoder, UnfitError, encode
from tuning.evaluation import of_labels
from tuning.examples import DataError, Example
from tuning.plan import Figures
from tuning.scorer import Scorer

Words = tuple[str, ...]
Proposals = Callable[[Words], Sequence[Words]]
"""More candidates for an instruction."""

POOL = 300
"""Words of the data that may come in."""
_NONE = Figures({}, (-inf,))
LONGEST = 40
"""Words of an instruction."""

MAX_BUDGET = 1_000_000
"""Rows that a search may score: what it is told of each is kept until it ends."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`scored`: rows read in all. A round judges `candidates` on `judged` rows; `searched` rows decide."""

    scored: int = 20_000
    candidates: int = 12
    judged: int = 32
    searched: int = 128


@dataclass(frozen=True, slots=True)
class Round:
    """What a round came to: rows scored so far, and the figures of the instruction on the search rows.

    `run`: its name among several.
    """

    scored: int
    budget: int
    accepted: bool
    instruction: str
    figures: dict[str, float]
    run: str = ""


@dataclass(slots=True)
class Found:
    """An instruction with its figures on held-out rows."""

    instruction: str
    held_out: Figures


@dataclass(slots=True)
class Hard:
    """One search. `line` is a template without slots, `encoder` any of its task's: the template is replaced.

    Iterate `rounds`, then ask for `began` and `best`.
    """

    scorer: Scorer
    encoder: Encoder
    context: int
    line: str
    start: str
    train: Sequence[Example]
    held_out: Sequence[Example]
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    proposals: Proposals | None = None
    began: Found = field(init=False)
    best: Found = field(init=False)
    _scored: int = 0

    def rounds(self) -> Iterator[Round]:
        """Search while a whole round fits the budget. Raises DataError for one that holds none."""
        rng = random.Random(f"hard/{self.seed}")
        pool = self._pool()
        searched = rng.sample(list(self.train), min(self.budget.searched, len(self.train)))
        words: Words = tuple(self.start.split())
        needed = self._round(len(searched), self.budget.candidates) + len(searched) + len(self.held_out)
        if needed > self.budget.scored:
            raise DataError(f"a budget of {self.budget.scored} rows is too small to search: one round takes {needed}")
        mine = self._judge([words], searched)[0]
        self.began = self.best = Found(" ".join(words), self._judge([words], self.held_out)[0])
        while True:
            some = rng.sample(searched, min(self.budget.judged, len(searched)))
            candidates = self._candidates(words, pool, rng)
            if self._scored + self._round(len(searched), len(candidates)) > self.budget.scored:
                return
            judged = self._judge([words, *candidates], some)
            place = max(range(1, len(judged)), key=lambda index: judged[index].order)
            accepted = False
            if judged[place].order > judged[0].order:
                challenger = candidates[place - 1]
                theirs = self._judge([challenger], searched)[0]
                accepted = theirs.order > mine.order
                if accepted:
                    words, mine = challenger, theirs
                    held_out = self._judge([words], self.held_out)[0]
                    if held_out.order > self.best.held_out.order:
                        self.best = Found(" ".join(words), held_out)
            yield Round(self._scored, self.budget.scored, accepted, " ".join(words), mine.named)

    def _round(self, searched: int, candidates: int) -> int:
        """Rows that a round reads at most."""
        return (1 + candidates) * min(self.budget.judged, searched) + searched + len(self.held_out)

    def template(self, instruction: str) -> str:
        """The instruction in front of the line."""
        return f"{literal(instruction)} {self.line}" if instruction else self.line

    def _candidates(self, words: Words, pool: Sequence[str], rng: random.Random) -> list[Words]:
        found = dict.fromkeys(edited(words, pool, rng) for _ in range(self.budget.candidates))
        if self.proposals is not None:
            found |= dict.fromkeys(self.proposals(words))
        found.pop(words, None)
        return list(found) or [words[:-1]]

    def _judge(self, instructions: Sequence[Words], rows: Sequence[Example]) -> list[Figures]:
        """All of them in one call of the scorer."""
        encoded: list[list[Encoded]] = []
        for words in instructions:
            text = self.template(" ".join(words))
            encoder = replace(self.encoder, template=Template.parse(text, "text", 0), deep=0)
            try:
                encoded.append(encode(rows, encoder, self.context))
            except UnfitError:  # too long for the context: the shortest instruction's fault is the data's
                if words == tuple(self.start.split()):
                    raise
                encoded.append([])
        self._scored += sum(map(len, encoded))
        likelihoods = self.scorer.likelihoods([one for some in encoded for one in some])
        figures, start = [], 0
        for some in encoded:
            figures.append(self._figures(likelihoods[start : start + len(some)], some) if some else _NONE)
            start += len(some)
        return figures

    def _figures(self, likelihoods: Sequence[Sequence[float]], examples: Sequence[Encoded]) -> Figures:
        """With labels accuracy first; free text by the loss of its references, in nats a token."""
        if self.encoder.labels is not None:
            return of_labels(likelihoods, examples)
        loss = -sum(one[0] for one in likelihoods) / sum(len(one.answers[0]) for one in examples)
        return Figures({"loss": loss}, (-loss,))

    def _pool(self) -> list[str]:
        """The data's most frequent words, and the labels'."""
        counts = Counter(word for one in self.train for text in one.inputs.values() for word in text.split())
        frequent = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:POOL]]
        labelled = [word for label in self.encoder.labels or () for word in label.split()]
        words = dict.fromkeys([*labelled, *self.start.split(), *frequent])
        tokenize = self.encoder.tokenize
        return [word for word in words if tokenize(word, True) == tokenize(word, False)]


def edited(words: Words, pool: Sequence[str], rng: random.Random) -> Words:
    """One edit: a span of up to three words deleted, swapped with another, replaced, or one or two words inserted."""
    kind = rng.choice(("delete", "swap", "replace", "insert"))
    new = tuple(rng.choice(pool) for _ in range(rng.choice((1, 1, 2)))) if pool else ()
    if not words or kind == "insert":
        at = rng.randint(0, len(words))
        return (words[:at] + new + words[at:])[:LONGEST]
    start = rng.randrange(len(words))
    end = min(len(words), start + rng.choice((1, 1, 2, 3)))
    if kind == "delete":
        return words[:start] + words[end:]
    if kind == "replace":
        return (words[:start] + new + words[end:])[:LONGEST]
    other = rng.randrange(len(words))
    first, second = sorted((start, other))
    swapped = list(words)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    return tuple(swapped)
