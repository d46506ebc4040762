"""One server for all tests that only ask it things; those that change its settings start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.models import save
from tests.server.site import Site
from tests.server.site import site as running


@pytest.fixture(scope="session", autouse=True)
def silence() -> None:
    """Servers in threads share the tests' standard output; what is logged is shown where a process is tested."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def site(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(base_folder, tmp_path_factory.mktemp("store")) as found:
        yield found
