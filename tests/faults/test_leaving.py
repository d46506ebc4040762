"""A server that is told to end while the store does not answer: row X1."""

import signal
import threading
import time
from pathlib import Path

import httpx

from tests.e2e.process import Process
from tests.s3 import Proxy, always
from tests.server.site import until

DRAIN = 2
LATEST = 15
"""Seconds on a busy machine; what hangs would take a hundred."""


def test_x1_a_server_ends_while_its_store_hangs(proxy: Proxy, base_folder: Path, s3_store: str) -> None:
    """Reads and a publish wait for an answer that does not come: they are told so, and the exit code is 0."""
    variables = {"SOFTPROMPT_BUCKET_SECONDS": "100", "SOFTPROMPT_DRAIN_SECONDS": str(DRAIN)}
    process = Process("--model", str(base_folder), "--store", s3_store, **variables)
    ended: list[int] = []

    def ask(method: str, path: str) -> None:
        with httpx.Client(base_url=process.url, timeout=60, trust_env=False) as own:
            try:
                ended.append(
                    own.request(method, path, json={"template": "{text}"} if method == "PUT" else None).status_code
                )
            except httpx.TransportError:
                ended.append(0)

    with process.wait_until_ready():
        proxy.rule = always("hang")
        before = len(proxy.asked)
        asking = [threading.Thread(target=ask, args=item) for item in (("GET", "/tasks/a"), ("PUT", "/tasks/b"))]
        for thread in asking:
            thread.start()
        until(lambda: len(proxy.asked) >= before + 2, "both hang")
        began = time.monotonic()
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < DRAIN + LATEST
        for thread in asking:
            thread.join()
    assert len(ended) == 2
    assert set(ended) <= {0, 503}
