"""A base from where the command line names it, as the tuner wants it. Knows paths and Hub ids; not what is learnt."""

import sys
from collections.abc import Callable

import torch
from transformers.utils import logging

from server.engine.checkpoint import locate, name_of
from server.engine.model import BaseModel
from server.tokenizer import Tokenizer
from tuning.base import FrozenBase


def quietly() -> None:
    """Let no bar of weights be drawn where standard error is no terminal."""
    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def load_base(
    model: str, device: str, threads: int | None, revision: str | None, pace: Callable[[], None] | None = None
) -> FrozenBase:
    """The base in float32, as it is served. `pace`: called in front of every pass.

    Raises BadBase, BaseDamaged and, without an end id, ValueError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    quietly()
    path = locate(model, revision)
    loaded = BaseModel.load(path, name=name_of(model), device=device, dtype="float32", packed=False)
    found = FrozenBase(loaded.model, Tokenizer.load(path), loaded.base, sorted(loaded.eos_ids))
    found.pace = pace
    return found
