"""Batched scoring of prompts that hold no gradient: what search and evaluation ask for, and who may answer.

The tuner's own pass over the frozen base is one scorer, a serving engine may be another: `hard` search and evaluation
do not mind. Knows ids and soft prompts; no metrics and no search.
"""

from collections.abc import Sequence
from typing import Protocol

import torch

from tuning.base import FrozenBase
from tuning.crowd import Member, gather
from tuning.encoding import Encoded, shared_head
from tuning.generation import generate
from tuning.likelihood import chunks, log_likelihoods
from tuning.soft import Soft

BATCH = 64
"""Prompts whose answers are generated together."""


class Scorer(Protocol):
    """Likelihoods and greedy answers behind one soft prompt, or behind none. Of no prompts there are none."""

    def likelihoods(self, prompts: Sequence[Encoded]) -> list[list[float]]:
        """Of each prompt's answers the sum of natural log-probabilities, in order."""

    def answers(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """Of each prompt the most likely next ids, up to an end that is left out."""


class BaseScorer:
    """By the frozen base itself, in float32."""

    def __init__(self, base: FrozenBase, soft: Soft | None = None) -> None:
        self._base = base
        self._soft = soft or Soft(torch.zeros(0, base.base.hidden, device=base.device))

    @torch.no_grad()
    def likelihoods(self, prompts: Sequence[Encoded]) -> list[list[float]]:
        if not prompts:
            return []
        head = shared_head(prompts)
        crowd = gather(self._base, [Member(self._soft, head)])
        found: list[list[float]] = [[] for _ in prompts]
        for chunk in chunks({0: prompts}, [len(head)], self._base.positions):
            rows = chunk[0]
            some = log_likelihoods(self._base, crowd, {0: [prompts[row] for row in rows]}, [len(head)])[0]
            for row, likelihoods in zip(rows, some.tolist(), strict=True):
                found[row] = likelihoods
        return found

    def answers(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        if not prompts:
            return []
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        head = shared_head([Encoded(tuple(prompt), ((0,),)) for prompt in prompts])
        found: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            some = generate(self._base, self._soft, [prompts[place] for place in places], max_new_tokens, head)
            for place, answer in zip(places, some, strict=True):
                found[place] = answer
        return found
