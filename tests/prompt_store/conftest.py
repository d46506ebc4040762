"""Places and stores for every test of this folder, each in memory and on disk."""

from pathlib import Path

import pytest

from prompt_store.local import LocalObjects
from prompt_store.objects import MemoryObjects, Objects
from prompt_store.store import Store


@pytest.fixture(params=["memory", "local"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty place."""
    return MemoryObjects() if request.param == "memory" else LocalObjects(tmp_path / "store")


@pytest.fixture
def store(objects: Objects) -> Store:
    """An empty store."""
    return Store(objects)
