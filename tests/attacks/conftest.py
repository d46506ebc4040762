"""The server that is attacked, and the row of the table that a test is about."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from tests.attacks.attack import Attack
from tests.attacks.table import rows
from tests.attacks.victim import DEADLINE, Lines, Victim, inside, process
from tests.models import save


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
    found = re.match(r"test_([A-Z]\d\d)_", request.node.originalname)
    assert found is not None
    return Attack(victim, rows()[found[1]])


@pytest.fixture(scope="package")
def hasty(base_folder: Path, tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Iterator[Victim]:
    """With a deadline that nobody has to wait for long."""
    with inside(base_folder, tmp_path_factory.mktemp("hasty"), lines, receive_seconds=DEADLINE) as found:
        yield found
