"""Places and stores for every test of this folder, each in memory, on disk and in a bucket."""

from pathlib import Path

import pytest

from prompt_store.bucket import BucketObjects
from prompt_store.local import LocalObjects
from prompt_store.objects import MemoryObjects, Objects
from prompt_store.store import Store


@pytest.fixture(params=["memory", "local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty place."""
    if request.param == "memory":
        return MemoryObjects()
    if request.param == "local":
        return LocalObjects(tmp_path / "store")
    return BucketObjects(request.getfixturevalue("s3_store"), timeout=10, lateness=0)


@pytest.fixture
def store(objects: Objects) -> Store:
    """An empty store."""
    return Store(objects)
