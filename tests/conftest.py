"""Fixtures that every test may ask for. The only reader of SOFTPROMPT_TEST_DATA."""

import os
import signal
import ssl
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.early import uncollected
from tests.s3 import credentials, new_in_bucket, served
from tests.tools import tool

BESIDE = Path(__file__).resolve().parents[2] / "shared"
TRUSTED = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Whose certificates are believed, where not the usual ones."""
ABSENT = "no data sets: SOFTPROMPT_TEST_DATA is unset or wrong, and no shared/data stands beside the checkout"


def pytest_configure() -> None:
    """Before anything imports torch: workers share the cores, where threads that wait for one another take ten times as
    long; nothing is looked for on the Hub."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Imports everything."""
    with uncollected():
        return (yield)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data sets (`data/`) and models (`models/`); a skip, or in CI a failure, without it."""
    folder = Path(os.environ.get("SOFTPROMPT_TEST_DATA") or BESIDE)
    if (folder / "data").is_dir():
        return folder
    if os.environ.get("CI"):
        pytest.fail(ABSENT)
    pytest.skip(ABSENT)


@pytest.fixture(scope="session")
def prometheus_installed() -> None:
    """A skip, or in CI a failure, where Debian's package `prometheus` is not."""
    for name in ("prometheus", "promtool"):
        tool(name)


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> None:
    """A script's background job ignores SIGINT and hands that down: tests that send one want it heard."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _one_trust() -> Iterator[None]:
    """Thousands of clients share what httpx would read anew for each, also for plain HTTP: 40 ms of certificates."""
    make = httpx.create_ssl_context

    @cache
    def usual(trust_env: bool, *_: str | None) -> ssl.SSLContext:
        return make(trust_env=trust_env)

    def found(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is not True or cert is not None:
            return make(verify=verify, cert=cert, trust_env=trust_env)
        return usual(trust_env, *map(os.environ.get, TRUSTED))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", found)
        yield


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """A real S3 server on a loopback port; the usual variables lead there as long as the tests run."""
    with served() as port, pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(f"http://127.0.0.1:{port}").items():
            patch.setenv(name, value)
        yield port


@pytest.fixture
def s3_store(s3_port: int) -> str:
    """The location of an empty store in a bucket."""
    return new_in_bucket()
