"""The 5-gram yardstick is a probability model, and a better one than a worse one."""

import itertools
import math
import random

import numpy as np
import pytest

from pretraining.kneser_ney import KneserNey

VOCABULARY, BOS = 6, 0


def _documents(count: int, seed: int) -> list[list[int]]:
    """Random walks on a ring: the next id is mostly the last one plus one."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        ids = [draw.randrange(1, VOCABULARY)]
        while len(ids) < 12:
            ids.append(1 + ids[-1] % (VOCABULARY - 1) if draw.random() < 0.9 else draw.randrange(1, VOCABULARY))
        found.append([BOS, *ids])
    return found


@pytest.fixture(scope="module")
def model() -> KneserNey:
    return KneserNey(_documents(200, 1), VOCABULARY, BOS)


def test_probabilities_of_every_context_add_up_to_one(model: KneserNey) -> None:
    """Seen or unseen, a context leaves a probability for each id and no more."""
    for context in itertools.islice(itertools.product(range(VOCABULARY), repeat=4), 0, None, 7):
        grams = []
        for last in range(VOCABULARY):
            key = 0
            for digit in (*context, last):
                key = key * VOCABULARY + digit
            grams.append(key)
        assert model._probabilities(np.array(grams, np.uint64)).sum() == pytest.approx(1.0)


def test_held_out_text_of_the_same_kind_is_likelier_than_under_a_uniform_model(model: KneserNey) -> None:
    """The walk's entropy is far below that of a die, and the model finds it."""
    held_out = _documents(50, 2)
    count = sum(len(document) - 1 for document in held_out)
    assert model.nats(held_out) / count < 0.6 * math.log(VOCABULARY)
    shuffled = [[BOS, *random.Random(3).sample(document[1:], len(document) - 1)] for document in held_out]
    assert model.nats(shuffled) > 1.5 * model.nats(held_out)
