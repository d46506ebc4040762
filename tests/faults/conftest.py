"""The programs of this folder, each run once for all tests that look at what it told, two at a time."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from prompt_store.bucket import BucketObjects
from prompt_store.store import Store
from tests.faults.buckets import TIMEOUT
from tests.faults.calls import KILL
from tests.faults.mounts import PRIVATE, mountable
from tests.faults.outcome import Outcome, told
from tests.models import save
from tests.prompt_store.make import ONE, put
from tests.s3 import Proxy, credentials
from tests.tools import tool

CUTS, KILLS = 191, 20
"""A cut at every step of every operation, and twenty under load."""
PROCESSES = 2
Programs = Mapping[str, "Future[list[Outcome]]"]


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    tool("strace")
    with ThreadPoolExecutor(PROCESSES) as pool:
        started = {
            "killed": pool.submit(told, "calls", "--inject", KILL),
            "failed": pool.submit(told, "calls", "--inject", "error=EIO", "error=ENOSPC"),
            "refused": pool.submit(
                told,
                "calls",
                *("--inject", "error=EDQUOT", "error=EMFILE", "error=EACCES", "error=EROFS"),
                *("--operations", "first"),
            ),
            "random": pool.submit(told, "kills", "--kills", str(KILLS)),
        }
        if mountable():
            for kind in ("xfs", "ext4"):
                started[kind] = pool.submit(told, "power", "--fs", kind, "--cuts", str(CUTS), under=PRIVATE)
        yield started
        pool.shutdown(cancel_futures=True)


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
