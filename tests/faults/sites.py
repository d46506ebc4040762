"""Servers on one bucket, each behind a proxy of its own, and what a client asks them; the fixture is in conftest.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.s3 import Proxy, credentials
from tests.server.site import Site
from tests.server.site import site as running

FAST: dict[str, Any] = {"bucket_seconds": 0.4, "freshness_seconds": 0.2, "staleness_seconds": 1.0}
PROMISED = 1.5
"""Seconds within which a version of one server is served by another: freshness and a question, on a busy machine."""


@contextmanager
def behind(proxy: Proxy, base: Path | None, store: str, **settings: Any) -> Iterator[Site]:
    """A server whose way to the bucket is that proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(proxy.url).items():
            patch.setenv(name, value)
        with running(base, store, **{**FAST, **settings}) as found:
            yield found


def code(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}" if answer.is_error else str(answer.status_code)


def generate(site: Site, task: str, **fields: Any) -> httpx.Response:
    body = {"task": task, "inputs": "x", "parameters": {"max_new_tokens": 1}, **fields}
    return site.http.post("/generate", json=body)


def asked(site: Site, task: str) -> str:
    return code(generate(site, task))


def version(site: Site, task: str, **fields: Any) -> int:
    found: int = generate(site, task, **fields).raise_for_status().json()["version"]
    return found


def ready(site: Site) -> str:
    answer = site.http.get("/readyz")
    return code(answer) if answer.is_error else str(answer.json()["status"])
