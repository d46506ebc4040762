"""A tiny random base and a made-up task of three labels that every test of the room learns."""

import json
from pathlib import Path

import pytest
import torch

from prompt_store.metadata import Base
from server.tokenizer import Tokenizer
from tests import models
from tuning.base import FrozenBase
from tuning.examples import Example

LABELS = ("music", "weather", "a table")
TEXTS = ("play some jazz", "what is the weather in Paris", "book a table for two at seven", "add this song", "rain?")


def frozen(family: str = "llama") -> FrozenBase:
    """A random base of `tests.models`, without a directory."""
    model = models.random_model(family)
    config = model.config
    base = Base("0" * 64, family, config.hidden_size, config.num_hidden_layers, 2, 16)
    return FrozenBase(model, Tokenizer(models.tokenizer(), 0, frozenset({0, 1, 2})), base, [1])


def examples(count: int = 24) -> list[Example]:
    """Rows of different widths."""
    return [
        Example({"text": TEXTS[n % len(TEXTS)] + " please" * (n % 4) + str(n)}, LABELS[n % len(LABELS)], n + 1)
        for n in range(count)
    ]


def write_rows(path: Path, count: int = 24) -> Path:
    """The same rows as a data file."""
    rows = ({**example.inputs, "target": example.target} for example in examples(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def base() -> FrozenBase:
    return frozen()
