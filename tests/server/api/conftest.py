"""A server that waits for nobody."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.api.connections import SECONDS
from tests.server.site import Site
from tests.server.site import site as running


@pytest.fixture(scope="module", params=["httptools", "h11"])
def hasty(request: pytest.FixtureRequest, base_folder: Path) -> Iterator[Site]:
    with running(
        base_folder, "memory://", http_parser=request.param, receive_seconds=SECONDS, write_seconds=SECONDS
    ) as found:
        yield found
