"""A store in a bucket behind a proxy, for the tests of this folder; fixtures are in conftest.py."""

from prompt_store.store import Store
from tests.s3 import BUCKET

TIMEOUT = 0.4
"""Seconds for one request; a write has three times that."""


def folder(location: str) -> str:
    """As it stands in a path of the server."""
    return f"/{BUCKET}/{location.rsplit('/', 1)[1]}"


def versions(store: Store) -> list[tuple[str, str | None]]:
    """All of the task, oldest first, each loaded whole."""
    found = store.versions("a")[::-1]
    for task in found:
        assert store.load(task).digest == task.digest
    return [(task.op_id, task.digest) for task in found]
