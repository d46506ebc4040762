"""How ids are drawn: the order of the settings, the seed, and that no row minds its neighbours."""

import math
from collections import Counter

import pytest
import torch

from server.engine.draws import CANDIDATES, Wish, uniform
from server.engine.request import Sampling
from server.engine.sampler import Choice, choose

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, 3.0]])
PROBABILITIES = torch.softmax(LOGITS[0].double(), -1)


def chosen(logits: torch.Tensor, wishes: list[Wish]) -> list[Choice]:
    """With the greedy choice that comes with them."""
    best, ids = logits.max(-1)
    return choose(logits, wishes, (best, ids), lambda some, most: (some - most[:, None]).logsumexp(-1))


def draw(sampling: Sampling, count: int = 400, logits: torch.Tensor = LOGITS) -> Counter[int]:
    """Ids of `count` steps over the same logits."""
    return Counter(chosen(logits, [Wish(sampling, step, ())])[0].id for step in range(count))


def test_temperature_zero_takes_the_best() -> None:
    """Greedy needs no seed."""
    assert draw(Sampling(temperature=0.0), 3) == Counter({4: 3})


def test_samples_follow_the_distribution() -> None:
    """Over many steps each id comes as often as its probability says."""
    found = draw(Sampling(temperature=1.0, seed=5), 4000)
    for token, probability in enumerate(PROBABILITIES.tolist()):
        assert found[token] / 4000 == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(temperature=1.0, top_k=1), {4}),
        (Sampling(temperature=1.0, top_k=2), {4, 0}),
        (Sampling(temperature=1.0, top_k=5), {0, 1, 2, 3, 4}),
        (Sampling(temperature=1.0, top_p=0.6), {4}),
        (Sampling(temperature=1.0, top_p=0.8), {4, 0}),
        (Sampling(temperature=1.0, min_p=0.3), {4, 0}),
        (Sampling(temperature=1.0, top_k=3, top_p=0.65), {4}),
        (Sampling(temperature=50.0, top_p=0.5), {4, 0, 1}),
    ],
)
def test_settings_leave_just_the_ids_they_say(sampling: Sampling, allowed: set[int]) -> None:
    """top-k keeps k, top-p the fewest that reach p after temperature, min-p those near the best."""
    assert set(draw(sampling)) == allowed


def test_top_p_sees_the_whole_vocabulary() -> None:
    """A flat distribution wider than the candidates looked at first keeps its share of all ids."""
    flat = torch.zeros(1, CANDIDATES * 4)
    found = draw(Sampling(temperature=1.0, top_p=0.9), 600, flat)
    assert len(found) > 400
    narrow = torch.zeros(1, CANDIDATES * 4)
    narrow[0, 7] = 30.0
    assert set(draw(Sampling(temperature=1.0, top_p=0.9), 50, narrow)) == {7}


def test_a_penalty_makes_seen_ids_less_likely_whatever_their_sign() -> None:
    """Positive logits are divided, negative ones multiplied; pseudo-tokens in the history are nothing."""
    greedy = Sampling(repetition_penalty=2.0)
    assert chosen(LOGITS, [Wish(greedy, 0, (4, ~0))])[0].id == 0
    assert chosen(-LOGITS, [Wish(greedy, 0, (3,))])[0].id == 3
    negative = torch.tensor([[-1.0, -1.5]])
    assert chosen(negative, [Wish(greedy, 0, (0,))])[0].id == 1


def test_a_row_does_not_mind_its_neighbours() -> None:
    """Among rows with other settings and with NaN, a row's draws are those of the row alone."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 50, generator=generator)
    rows[1, 3] = math.nan
    mine = Sampling(temperature=1.3, top_p=0.9, seed=11, logprobs=2)
    others = [Sampling(temperature=2.0, seed=3), Sampling(logprobs=5), Sampling(temperature=1.0, top_k=3)]
    for step in range(20):
        alone = chosen(rows[3:], [Wish(mine, step, ())])[0]
        among = chosen(rows, [*(Wish(other, step, ()) for other in others), Wish(mine, step, ())])
        assert among[3] == alone
        assert [choice.finite for choice in among] == [True, False, True, True]


@pytest.mark.parametrize("size", [1.0, 1e4, 1e8, 1e30])
def test_logprobs_keep_their_digits_however_large_the_logits(size: float) -> None:
    """They are differences of logits: what all share takes none of their precision. No more are told than there are."""
    logits = LOGITS + size
    told = chosen(logits, [Wish(Sampling(logprobs=20), 0, ())])[0]
    logs = torch.log_softmax(logits[0].double(), -1)
    assert told.logprob == pytest.approx(float(logs.max()), abs=1e-6)
    assert [log for _, log in told.top] == pytest.approx(logs.sort(descending=True).values.tolist(), abs=1e-6)


def test_the_noise_depends_on_seed_choice_and_step() -> None:
    """Each of the three gives another number, all of them in [0, 1)."""
    numbers = {uniform(seed, choice, step) for seed in range(8) for choice in range(8) for step in range(8)}
    assert len(numbers) == 512
    assert all(0 <= number < 1 for number in numbers)
    assert uniform(1, 23, 4) != uniform(12, 3, 4)
