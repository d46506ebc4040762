"""A server that waits for nobody, and one that has no room."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.api.connections import SECONDS
from tests.server.api.test_admission import ADMIN, ONE, ROOM, Crowd, ask, held, named
from tests.server.api.test_turnstile import PAGE
from tests.server.site import Site, until
from tests.server.site import site as running


@pytest.fixture(scope="module", params=["httptools", "h11"])
def hasty(request: pytest.FixtureRequest, base_folder: Path) -> Iterator[Site]:
    with running(
        base_folder, "memory://", http_parser=request.param, receive_seconds=SECONDS, write_seconds=SECONDS
    ) as found:
        yield found


@pytest.fixture
def full(base_folder: Path) -> Iterator[tuple[Site, ThreadPoolExecutor]]:
    """One request runs, and of task `a` as many wait as may."""
    with (
        running(
            base_folder, "memory://", max_batch=1, max_waiting=ROOM, api_key=ONE, admin_key=ADMIN, cors_origins=PAGE
        ) as site,
        ThreadPoolExecutor(16) as pool,
    ):
        for task in ("a", "b"):
            site.http.put(f"/tasks/{task}", json={"template": "{input}"}, headers=named(ADMIN)).raise_for_status()
        with held(site):
            pool.submit(ask, site, ONE)
            until(lambda: site.snapshot().running == 1, "one runs")
            Crowd(site, pool).until_refused(ONE, task="a")
            yield site, pool
