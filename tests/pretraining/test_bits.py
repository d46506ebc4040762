"""Bits per byte counts every id but the opening once, whatever the window."""

import math

import pytest
import torch

from pretraining.bits import bits_per_byte, nats
from tests import models


def test_windows_score_every_id_once() -> None:
    """A text longer than the context is scored whole: with an untrained uniform model each id costs log V."""
    model = models.random_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    texts = [[0, *range(3, 3 + length)] for length in (1, 15, 16, 17, 40, 100)]
    expected = sum(len(ids) - 1 for ids in texts) * math.log(models.VOCABULARY)
    assert nats(model, texts, context=16, batch=3) == pytest.approx(expected)


def test_batches_and_padding_change_nothing() -> None:
    """Texts of other lengths beside it leave a text's likelihood as it is."""
    model = models.random_model()
    texts = [[0, *range(3, 3 + length)] for length in (5, 30, 12, 60)]
    together = nats(model, texts, context=64, batch=4)
    assert sum(nats(model, [ids], context=64) for ids in texts) == pytest.approx(together, rel=1e-5)


def test_bytes_are_those_of_utf8() -> None:
    """A character of two bytes counts twice."""
    model, tokenizer = models.random_model(), models.tokenizer()
    ids = tokenizer.encode("é").ids
    assert bits_per_byte(model, tokenizer, ["é"], 64) == pytest.approx(nats(model, [ids], 64) / math.log(2) / 2)
