"""Places and stores for every test of this folder, each in memory, on disk and in a bucket."""

from pathlib import Path

import pytest

from prompt_store.bucket import BucketObjects
from prompt_store.local import LocalObjects
from prompt_store.objects import MemoryObjects, Objects
from prompt_store.store import Store
from tests.s3 import new_in_bucket

PLACES = ("memory", "local", "s3")


@pytest.fixture(params=PLACES)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty place."""
    return empty(request, tmp_path)


def empty(request: pytest.FixtureRequest, folder: Path) -> Objects:
    """What the fixture's parameter names, one of PLACES."""
    if request.param == "memory":
        return MemoryObjects()
    if request.param == "local":
        return LocalObjects(folder / "store")
    request.getfixturevalue("s3_port")
    return BucketObjects(new_in_bucket(), timeout=10, lateness=0)


@pytest.fixture
def store(objects: Objects) -> Store:
    """An empty store."""
    return Store(objects)
