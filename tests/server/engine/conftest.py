"""The engine's tests run small models beside each other: one thread each is faster than two that wait in turns."""

from collections.abc import Iterator

import pytest
import torch

from server.engine.engine import Engine
from server.engine.kernels import Kernels
from server.engine.model import BaseModel
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine.kinds import KINDS, kernels_of


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel.load(models.save(tmp_path_factory.mktemp("base")), device="cpu", dtype="float32")


@pytest.fixture
def engine(base: BaseModel) -> Iterator[Engine]:
    """Not started: what is submitted before it starts begins in one step."""
    found = Engine(base, EngineSettings(max_batch=32, max_batch_tokens=1024, threads=1))
    yield found
    found.close(0.0)


@pytest.fixture(params=KINDS)
def kernel(request: pytest.FixtureRequest) -> Kernels:
    """Compiled ones, or Triton's in its interpreter."""
    return kernels_of(request.param)


@pytest.fixture(params=[kind for kind in KINDS if kind.startswith("native")])
def native(request: pytest.FixtureRequest) -> Kernels:
    return kernels_of(request.param)
