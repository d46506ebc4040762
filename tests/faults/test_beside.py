"""A job that learns beside requests: row L11."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import openai
import pytest

from server.jobs.worker import WAIT_SECONDS, Worker
from tests.server.jobs.asking import LONG, create, method
from tests.server.jobs.conftest import client_of
from tests.server.site import Site, until
from tests.server.site import site as running

BUSY_SECONDS = 4.0
TURNS, REQUESTS = 2, 40
ALLOWED, SLACK = 2.0, 0.5
"""The 99th percentile may double; and half a second more, of a busy machine."""


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments at which a job begins to wait for its next pass."""
    found: list[float] = []
    wait = Worker._wait

    def noted(self: Worker) -> None:
        found.append(time.monotonic())
        wait(self)

    monkeypatch.setattr(Worker, "_wait", noted)
    return found


@pytest.fixture
def learning(base_folder: Path, tmp_path: Path, passes: list[float]) -> Iterator[Site]:
    with running(base_folder, "memory://", jobs=str(tmp_path / "jobs")) as found:
        yield found


@contextmanager
def job(client: openai.OpenAI, passes: list[float], name: str) -> Iterator[None]:
    """One that learns all the time, cancelled in the end."""
    made = create(client, name, method(told=LONG)).id
    passes.clear()
    until(lambda: len(passes) > 5, "it learns", 60)
    yield
    assert client.fine_tuning.jobs.cancel(made).status == "cancelled"


def seconds(site: Site) -> float:
    began = time.monotonic()
    site.generate("play some jazz", max_new_tokens=12, ignore_eos=True)
    return time.monotonic() - began


@contextmanager
def busy(site: Site) -> Iterator[None]:
    """Somebody is served at every moment: two ask, and each again before the other's answer is over."""
    done = threading.Event()
    body: dict[str, Any] = {"inputs": "x", "parameters": {"max_new_tokens": 200, "ignore_eos": True, "n": 4}}

    def ask() -> None:
        while not done.is_set():
            site.http.post("/generate", content=json.dumps(body), headers={"content-type": "application/json"})

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        until(site.busy, "they are served")
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_l11_a_job_makes_room_for_whoever_is_served(learning: Site, passes: list[float]) -> None:
    """While requests run it makes a pass a second at most, and as many as it can when they have ended."""
    with client_of(learning.url) as client, job(client, passes, "paused"):
        with busy(learning):
            passes.clear()
            began = time.monotonic()
            until(lambda: time.monotonic() > began + BUSY_SECONDS, "a while")
            made, took = len(passes), time.monotonic() - began
        passes.clear()
        until(lambda: len(passes) > 4 * BUSY_SECONDS / WAIT_SECONDS, "it goes on", 60)
    assert made <= took / WAIT_SECONDS + 2


def test_l11_requests_beside_a_job_wait_little_longer(learning: Site, passes: list[float]) -> None:
    """The 99th percentile of a request's time, in turns without a job and with one."""
    calm: list[float] = []
    beside: list[float] = []
    with client_of(learning.url) as client:
        seconds(learning)
        for turn in range(TURNS):
            calm += [seconds(learning) for _ in range(REQUESTS)]
            with job(client, passes, f"beside{turn}"):
                beside += [seconds(learning) for _ in range(REQUESTS)]
    worst = [quantiles(found, n=100, method="inclusive")[98] for found in (calm, beside)]
    assert worst[1] < ALLOWED * worst[0] + SLACK
