"""What an engine's attention leaves behind on a base that outlives it: nothing."""

import gc
import weakref
from pathlib import Path

import pytest

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Request, Sampling
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle, prompts


@pytest.mark.parametrize(("family", "native"), [("llama", True), ("llama", False), ("gpt2", False)])
def test_a_closed_engine_leaves_its_base_to_the_next_and_gives_its_cache_back(
    family: str, native: bool, tmp_path: Path
) -> None:
    """Neither transformers nor the base's layers and hooks keep it."""
    base = BaseModel.load(models.save(tmp_path, family), device="cpu", dtype="float32", native=native)
    answers = []
    for _ in range(2):
        engine = Engine(base, EngineSettings(max_batch=2, threads=1))
        engine.start()
        answers.append(oracle.ids_of(oracle.ask(engine, Request(1, prompts.text(3, 6), Sampling(4, ignore_eos=True)))))
        cache = weakref.ref(engine._runner.kv)
        engine.close()
        del engine
        gc.collect()
        assert cache() is None
    assert answers[0] == answers[1]
