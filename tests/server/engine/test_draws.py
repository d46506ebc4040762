"""Rows drawn together are drawn as each would be alone."""

import random

import pytest
import torch

from server.engine.draws import CANDIDATES, Wish, draw, draw_all
from server.engine.request import Sampling

KEPT = (0, 0, 1, 5, 40, CANDIDATES, CANDIDATES + 1, 10**6)
MASS = (1.0, 1.0, 0.05, 0.5, 0.95, 0.9999)


def wishes(count: int, seed: int) -> list[Wish]:
    """Settings of every sort beside each other."""
    pick = random.Random(seed)
    samplings = (
        Sampling(
            temperature=pick.choice((0.05, 0.7, 1.0, 30.0)),
            top_k=pick.choice(KEPT),
            top_p=pick.choice(MASS),
            min_p=pick.choice((0.0, 0.0, 0.02, 1.0)),
            seed=pick.randrange(2**32),
            choice=pick.randrange(3),
        )
        for _ in range(count)
    )
    return [Wish(sampling, pick.randrange(50), ()) for sampling in samplings]


@pytest.mark.parametrize("size", [7, 384, 3 * CANDIDATES])
@pytest.mark.parametrize("seed", range(6))
def test_rows_together_are_drawn_as_each_alone(size: int, seed: int) -> None:
    """Flat and peaked scores, and few, many or all ids to choose from."""
    generator = torch.Generator().manual_seed(seed)
    asked = wishes(120, seed)
    scores = torch.randn(120, size, generator=generator) * torch.rand(120, 1, generator=generator) * 8
    scores[::11] *= 1e-6  # all but flat: of two that are as likely, either may stand first
    scores[5::11, 1:] = -torch.inf
    found = draw_all(scores, asked)
    assert found == [draw(row, wish) for row, wish in zip(scores, asked, strict=True)]
    assert len(set(found)) > min(size, 20) // 2


def test_of_equal_settings_all_rows_are_one_group() -> None:
    """Wide and narrow settings alone, which leave the other group empty."""
    scores = torch.randn(9, 50, generator=torch.Generator().manual_seed(1))
    for top_k in (0, 5):
        asked = [Wish(Sampling(temperature=1.0, top_k=top_k, seed=seed), 0, ()) for seed in range(9)]
        assert draw_all(scores, asked) == [draw(row, wish) for row, wish in zip(scores, asked, strict=True)]
    assert draw_all(scores[:0], []) == []
