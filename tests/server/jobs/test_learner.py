"""The base as the tuner takes it from the server."""

from pathlib import Path

import pytest

from server.engine.model import BaseModel
from server.jobs.learner import FEWEST, PASS_FLOPS, learner
from server.tokenizer import Tokenizer
from tests import models
from tuning.base import POSITIONS


def test_a_pass_is_as_long_as_the_whole_base_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed layers count: their weights are no parameters any more, but are multiplied all the same."""
    folder = models.save(tmp_path / "base")
    plain, packed = (BaseModel.load(folder, device="cpu", dtype="float32", packed=one) for one in (False, True))
    count = sum(parameter.numel() for parameter in plain.model.parameters())
    assert packed.packed
    assert sum(parameter.numel() for parameter in packed.model.parameters()) < count
    found = learner(packed, Tokenizer.load(folder))
    assert found.parameters == count
    assert found.positions == min(POSITIONS, int(PASS_FLOPS / (6 * count)))
    monkeypatch.setattr("server.jobs.learner.PASS_FLOPS", 1.0)
    assert learner(packed, Tokenizer.load(folder)).positions == FEWEST
