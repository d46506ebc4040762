"""The server that is attacked, and the row of the table that a test is about."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from tests.attacks.attack import Attack
from tests.attacks.edge import Edge
from tests.attacks.table import Row, rows
from tests.attacks.victim import DEADLINE, Lines, Victim, inside, process
from tests.models import save
from tests.server.api.walk import ADMIN_KEY, API_KEY
from tests.server.site import Site, site


def row_of(request: pytest.FixtureRequest) -> Row:
    """test_U07_... is about U07."""
    found = re.match(r"test_([A-Z]\d\d)_", request.node.originalname)
    assert found is not None
    return rows()[found[1]]


@pytest.fixture(scope="package")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="package")
def lines() -> Iterator[Lines]:
    """What servers in threads log, all of them together, before it becomes text."""
    found: Lines = []

    def keep(_: Any, level: str, event: EventDict) -> EventDict:
        found.append({**event, "level": level})
        return event

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep], logger_factory=structlog.ReturnLoggerFactory()
    )
    yield found
    structlog.configure(**before)


@pytest.fixture(scope="package")
def victim(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with process(base_folder, tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def attack(request: pytest.FixtureRequest, victim: Victim) -> Attack:
    """Of the row that the test's name says: test_U07_... is about U07."""
    return Attack(victim, row_of(request))


@pytest.fixture(scope="package")
def hasty(base_folder: Path, tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Iterator[Victim]:
    """With a deadline that nobody has to wait for long."""
    with inside(base_folder, tmp_path_factory.mktemp("hasty"), lines, receive_seconds=DEADLINE) as found:
        yield found


@pytest.fixture(scope="package", params=["httptools", "h11"])
def guarded(request: pytest.FixtureRequest, base_folder: Path, lines: Lines) -> Iterator[Site]:
    """A server whose deadlines nobody has to wait for long, over each parser."""
    hasty = {"receive_seconds": DEADLINE, "write_seconds": DEADLINE}
    with site(base_folder, "memory://", http_parser=request.param, **hasty) as found:
        found.publish("known", "play {text}")
        yield found


@pytest.fixture
def edge(request: pytest.FixtureRequest, guarded: Site, lines: Lines) -> Edge:
    """Of the row that the test's name says."""
    return Edge(guarded, lines, row_of(request))


@pytest.fixture(scope="package")
def closed_site(base_folder: Path, lines: Lines) -> Iterator[Site]:
    """A server with keys."""
    with site(base_folder, "memory://", api_key=API_KEY, admin_key=ADMIN_KEY) as found:
        yield found


@pytest.fixture
def locked(request: pytest.FixtureRequest, closed_site: Site, lines: Lines) -> Edge:
    """The same where keys are set."""
    return Edge(closed_site, lines, row_of(request))
