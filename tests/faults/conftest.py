"""The programs of this folder, each run once for all tests that look at what it told."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import structlog

from prompt_store.bucket import BucketObjects
from prompt_store.store import Store
from tests.faults.buckets import TIMEOUT
from tests.faults.calls import KILL
from tests.faults.mounts import PRIVATE
from tests.faults.outcome import Outcome, told
from tests.models import save
from tests.prompt_store.make import ONE, put
from tests.s3 import Proxy, credentials
from tests.tools import tool

CUTS, KILLS = 195, 20
"""A cut at every step of every operation, and twenty under load."""
CALLS: Mapping[str, Sequence[str]] = {
    "killed": ("--inject", KILL),
    "failed": ("--inject", "error=EIO", "error=ENOSPC"),
    "refused": (
        *("--inject", "error=EDQUOT", "error=EMFILE", "error=EACCES", "error=EROFS"),
        *("--operations", "first"),
    ),
}


class Programs:
    """What each of them told, begun when somebody first asks."""

    def __init__(self) -> None:
        self._told: dict[str, list[Outcome]] = {}

    def __getitem__(self, name: str) -> list[Outcome]:
        if name not in self._told:
            self._told[name] = self._run(name)
        return self._told[name]

    def _run(self, name: str) -> list[Outcome]:
        if name in CALLS:
            return told("calls", *CALLS[name])
        if name == "random":
            return told("kills", "--kills", str(KILLS))
        return told("power", "--fs", name, "--cuts", str(CUTS), under=PRIVATE)


@pytest.fixture(scope="session")
def programs() -> Programs:
    tool("strace")
    return Programs()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small base on disk, for servers."""
    return save(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session", autouse=True)
def silence() -> None:
    """Servers in threads share the tests' standard output."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture
def proxy(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What the store's own variables lead to."""
    with Proxy(s3_port).running() as found:
        for name, value in credentials(found.url).items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def store(proxy: Proxy, s3_store: str) -> Store:
    """A store behind the proxy that holds ONE as version 1 of `a`."""
    found = Store(BucketObjects(s3_store, TIMEOUT))
    put(found, "a", ONE)
    return found


@pytest.fixture
def proxies(s3_port: int) -> Iterator[list[Proxy]]:
    """Two ways to the bucket."""
    with Proxy(s3_port).running() as one, Proxy(s3_port).running() as two:
        yield [one, two]
