"""A server that learns, and OpenAI's own client to ask it with."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.server.site import Site
from tests.server.site import site as running


@pytest.fixture(scope="session")
def learning(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(base_folder, "memory://", jobs=str(tmp_path_factory.mktemp("jobs"))) as found:
        yield found


@pytest.fixture(scope="session")
def client(learning: Site) -> Iterator[openai.OpenAI]:
    with client_of(learning.url) as found:
        yield found


def client_of(url: str, key: str = "none") -> openai.OpenAI:
    """Without retries: a test wants the first answer."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)
