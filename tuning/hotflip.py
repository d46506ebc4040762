"""Which word of an instruction, exchanged for which, would lower the loss: by its gradient (HotFlip, arXiv 1712.06751).

The first-order estimate of exchanging embedding e for e' is g . (e' - e). What it names is only proposed: the search
accepts on the metric. Knows the base and words.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import torch

from prompt_store.template import Template
from tuning.base import FrozenBase
from tuning.crowd import Member, gather
from tuning.encoding import Encoder, UnfitError, encode
from tuning.examples import Example
from tuning.hard import Words
from tuning.likelihood import log_likelihoods
from tuning.objective import Objective, loss
from tuning.soft import Soft

ROWS = 16


class HotFlip:
    """Proposals for `hard.Hard`: the instruction's ids become rows, whose gradient says what to exchange."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a gradient depends on
        self, base: FrozenBase, encoder: Encoder, line: str, train: Sequence[Example], count: int = 6, seed: int = 0
    ) -> None:
        self._base = base
        self._encoder = encoder
        self._line = line
        self._train = list(train)
        self._count = count
        self._rng = random.Random(f"hotflip/{seed}")
        weight: torch.Tensor = base.embedding.weight  # type: ignore[assignment]
        self._table = weight.detach().float()
        self._words = _whole_words(base, len(weight))

    def __call__(self, words: Words) -> list[Words]:
        """`count` instructions that differ in one word."""
        pieces = [self._base.tokenizer.encode(" " + word, False) for word in words]
        alone = [place for place, ids in enumerate(pieces) if len(ids) == 1]
        if not alone:
            return []
        ids = [token for piece in pieces for token in piece]
        try:
            gradient = self._gradient(ids)
        except UnfitError:  # a row that only shorter instructions leave room for
            return []
        firsts = [sum(map(len, pieces[:place])) for place in alone]
        gains = -(gradient[firsts] @ self._table.T)
        gains = gains + (gradient[firsts] * self._table[[ids[first] for first in firsts]]).sum(1, keepdim=True)
        kept = torch.tensor(list(self._words), device=gains.device)
        best = torch.topk(gains[:, kept].flatten(), min(self._count, gains.shape[0] * len(kept))).indices.tolist()
        found = []
        for index in best:
            place, word = alone[index // len(kept)], self._words[int(kept[index % len(kept)])]
            found.append((*words[:place], word, *words[place + 1 :]))
        return found

    def _gradient(self, ids: Sequence[int]) -> torch.Tensor:
        rows = self._table[list(ids)].clone().requires_grad_()
        template = Template.parse(f"{{soft:{len(ids)}}} {self._line}", "embeddings", len(ids))
        encoder = replace(self._encoder, template=template, deep=0)
        some = encode(self._rng.sample(self._train, min(ROWS, len(self._train))), encoder, self._base.context)
        objective: Objective = "lm" if encoder.labels is None else "labels"
        crowd = gather(self._base, [Member(Soft(rows))])
        loss(objective, log_likelihoods(self._base, crowd, {0: some}, [0])[0], some).backward()
        return torch.zeros_like(rows) if rows.grad is None else rows.grad


def _whole_words(base: FrozenBase, vocabulary: int) -> dict[int, str]:
    """Ids that read as a word of letters behind a space."""
    found = {}
    for token in range(vocabulary):
        word = base.tokenizer.decode([token])
        if word.startswith(" ") and word[1:].isalpha() and base.tokenizer.encode(word, False) == [token]:
            found[token] = word[1:]
    return found
