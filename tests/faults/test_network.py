"""A network that loses, slows and cuts, and everybody coming back at once: rows N4 and N6."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from softprompt_client import AsyncClient, SoftpromptError
from tests.e2e.process import Process, serving
from tests.faults.network import Network
from tests.server.site import embeddings, until

TEXTS = [f"play song {number}" for number in range(12)]
TOLD = {"max_new_tokens": 24, "ignore_eos": True}
ASKED = 60
"""Requests over a bad network, half of them streams."""
CROWD = 200
BATCH, WAITING = 8, 64
RETRIES = 6
LOOK_SECONDS = 0.05
PATIENCE = 60.0
"""Seconds of the clients."""
RECEIVE = 2.0
"""Seconds for a request to arrive, where the network is far slower."""


@pytest.fixture(scope="module")
def server(base_folder: Path) -> Iterator[tuple[Process, httpx.Client]]:
    variables = {"SOFTPROMPT_RECEIVE_SECONDS": str(RECEIVE)}
    with serving("--model", str(base_folder), "--store", "memory://", **variables) as (process, http):
        http.put("/tasks/a", content=embeddings(None, "{input}", 4).data).raise_for_status()
        yield process, http


def port(process: Process) -> int:
    return httpx.URL(process.url).port or 0


def held(process: Process, http: httpx.Client) -> dict[str, float]:
    """What goes back to where it was."""
    lines = http.get("/metrics").text.splitlines()
    names = ("softprompt_num_requests_running", "softprompt_num_requests_waiting", "softprompt_event_loop_tasks")
    found = {line.split()[0]: float(line.split()[1]) for line in lines if line.split()[0] in names}
    return {**found, "descriptors": len(list(Path(f"/proc/{process.pid}/fd").iterdir()))}


def asked(url: str, text: str, *, streamed: bool) -> str | int | None:
    """The whole text, the status of an error, or None where the connection broke."""
    body = {"task": "a", "inputs": text, "parameters": TOLD, "stream": streamed}
    try:
        with (
            httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as own,
            own.stream("POST", "/generate", json=body) as answer,
        ):
            lines = list(answer.iter_lines())
    except httpx.TransportError:
        return None
    if answer.status_code != 200:
        return answer.status_code
    last = [line for line in lines if line][-1].removeprefix("data: ")
    text_of: str = json.loads(last)["generated_text"]
    return text_of


def test_n4_a_network_that_loses_slows_and_cuts_leaves_nothing_behind(server: tuple[Process, httpx.Client]) -> None:
    """Three pieces in ten come late, one connection in three is cut: right answers or none, and all is as it was."""
    process, http = server
    right = {text: asked(process.url, text, streamed=False) for text in TEXTS}
    before = held(process, http)
    with (
        Network(port(process), lost=0.3, rate=125_000.0, cut=0.33).running() as network,
        ThreadPoolExecutor(16) as pool,
    ):
        found = [
            (text, pool.submit(asked, network.url, text, streamed=bool(number % 2)))
            for number, text in ((n, TEXTS[n % len(TEXTS)]) for n in range(ASKED))
        ]
        answers = [(text, each.result()) for text, each in found]
    assert not [answer for text, answer in answers if answer not in {right[text], None}]
    assert network.cuts
    assert 0 < sum(answer is None for _, answer in answers) < ASKED
    until(lambda: held(process, http) == before, "all is as it was")


def test_n4_what_does_not_arrive_in_time_is_given_up(server: tuple[Process, httpx.Client]) -> None:
    """At two hundred bytes a second heads arrive in time and bodies do not: 408, or a connection that is closed."""
    process, http = server
    before, began = held(process, http), time.monotonic()
    with Network(port(process), rate=200.0, piece=50).running() as network, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: asked(network.url, text * 100, streamed=False), TEXTS[:4]))
        until(lambda: held(process, http) == before, "nothing waits for it any more")
        seconds = time.monotonic() - began
    assert set(found) <= {408, None}
    assert seconds < PATIENCE, "the server gave up, not the client"


async def _persistent(client: AsyncClient, text: str) -> str:
    """Asks by the client's own habits, and again whenever that may help."""
    while True:
        try:
            return (await client.generate("a", text, max_new_tokens=24, ignore_eos=True))["generated_text"]
        except SoftpromptError as error:
            if not error.retryable and error.code != "no_answer":
                raise


@contextmanager
def crowd(url: str, answers: list[tuple[str, str]]) -> Iterator[threading.Thread]:
    """So many at once, each until it has its answer."""

    async def everybody() -> None:
        async def one(client: AsyncClient, text: str) -> None:
            answers.append((text, await _persistent(client, text)))

        async with AsyncClient(url, retries=RETRIES) as client, asyncio.TaskGroup() as group:
            for number in range(CROWD):
                group.create_task(one(client, TEXTS[number % len(TEXTS)]))

    thread = threading.Thread(target=lambda: asyncio.run(everybody()), name="crowd")
    thread.start()
    yield thread
    thread.join()


@pytest.mark.timeout(600)
def test_n6_a_crowd_that_comes_back_after_a_restart_is_all_served(base_folder: Path, tmp_path: Path) -> None:
    """The server is killed under two hundred clients; the next one never runs or queues more than it may."""
    options = ("--model", str(base_folder), "--store", str(tmp_path / "store"))
    bounds = {"SOFTPROMPT_MAX_BATCH": str(BATCH), "SOFTPROMPT_MAX_WAITING": str(WAITING)}
    answers: list[tuple[str, str]] = []
    looks: list[dict[str, Any]] = []
    first = Process(*options, **bounds)
    with first.wait_until_ready() as http:
        http.put("/tasks/a", content=embeddings(None, "{input}", 4).data).raise_for_status()
        right = {text: asked(first.url, text, streamed=False) for text in TEXTS}
        with crowd(first.url, answers) as thread:
            until(lambda: len(answers) > BATCH, "some are served", 60)
            first.send(signal.SIGKILL)
            first.wait()
            served_before = len(answers)
            with serving(*options, "--port", str(port(first)), **bounds) as (_, again):
                while thread.is_alive():
                    looks.append(again.get("/info").json()["engine"])
                    thread.join(LOOK_SECONDS)
                looks.append(again.get("/info").json()["engine"])
                refused = again.get("/metrics").text.count('softprompt_request_failed_total{code="queue_full"}')
    assert served_before < CROWD
    assert len(answers) == CROWD
    assert all(right[text] == answer for text, answer in answers)
    assert max(look["running"] for look in looks) <= BATCH
    assert max(look["waiting"] for look in looks) <= WAITING
    assert refused, "it was never full"
    assert (looks[-1]["running"], looks[-1]["waiting"]) == (0, 0)
