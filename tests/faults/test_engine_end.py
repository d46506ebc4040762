"""An engine that has died, or does not come round: what is told, and how the process ends (L4, L6, L10)."""

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from prompt_store.store import Store
from server.leaving import ENGINE_FAILED, LATEST_SECONDS
from tests.e2e.process import Process, serving
from tests.faults import failing
from tests.faults.cgroups import cpu, limited, memory
from tests.faults.clinging import LONG, half_sent
from tests.faults.operations import history
from tests.prompt_store.make import put, text_task
from tests.server.site import until

OLD = text_task("old {input}")
STALL = 0.5
BUSY = 1.0
"""Seconds for a machine with more to do than it can."""
MEMORY = 2 * 2**20
"""Bytes that a limit leaves: sixteen long answers want more."""
SECONDS_LATE = 15.0
"""For a deadline to be noticed by a process that gets a tenth of a core, or none for a while."""
PATIENT = {"SOFTPROMPT_RECEIVE_SECONDS": "600"}
ASK: dict[str, Any] = {"inputs": "x", "parameters": {"max_new_tokens": 4}}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With one task."""
    put(Store.open(str(tmp_path / "store")), "a", OLD, "old")
    return tmp_path / "store"


@pytest.fixture
def options(base_folder: Path, store: Path) -> Sequence[str]:
    return ("--model", str(base_folder), "--store", str(store))


def probe(client: httpx.Client, path: str) -> tuple[int, str | None]:
    """The status, and an error's code."""
    answer = client.get(path)
    return answer.status_code, answer.json().get("error", {}).get("code")


def answered(client: httpx.Client) -> bool:
    """Whether anybody answers a request, whatever it is told."""
    try:
        client.post("/generate", json=ASK)
    except httpx.TransportError:
        return False
    return True


def test_l6_a_lost_device_ends_the_process_and_nobody_is_told_200(options: Sequence[str], store: Path) -> None:
    """Streams get an error event, probes say `engine_failed`, the exit code is 70, the log says why."""
    process = Process(*options, under=failing.device, SOFTPROMPT_DRAIN_SECONDS="2", **PATIENT)
    told: list[tuple[int, str | None]] = []
    with process.wait_until_ready() as client, half_sent(process.url):
        assert client.post("/generate", json=ASK).status_code == 200
        with client.stream("POST", "/generate_stream", json=LONG) as stream:
            lines = (line for line in stream.iter_lines() if line)
            next(lines)
            process.send(signal.SIGUSR1)
            last = json.loads(list(lines)[-1].removeprefix("data: "))
        assert "error" in last
        while not told or told[-1][1] != "engine_failed":
            answer = client.post("/generate", json=ASK)
            told.append((answer.status_code, answer.json()["error"]["code"]))
        assert probe(client, "/livez") == probe(client, "/readyz") == (503, "engine_failed")
        assert process.wait() == ENGINE_FAILED
    assert {status for status, _ in told} <= {500, 503}
    died = next(entry for entry in process.log if entry["event"] == "the engine has died: the process ends")
    assert died["exit_code"] == ENGINE_FAILED
    assert [entry["error"] for entry in process.log if entry["event"] == "the engine has crashed"] == ["DeviceLost"]
    assert history(Store.open(str(store)), "a") == [("publish", OLD.digest)]
    with serving(*options) as (_, client):
        assert client.post("/generate", json={**ASK, "task": "a"}).status_code == 200


def test_l6_an_idle_server_whose_engine_died_is_gone_at_once(options: Sequence[str]) -> None:
    """Nothing runs, so nothing is waited for, whatever the drain may take."""
    process = Process(*options, under=failing.device, SOFTPROMPT_DRAIN_SECONDS="600")
    with process.wait_until_ready() as client:
        process.send(signal.SIGUSR1)
        until(lambda: not answered(client), "nobody answers")
        assert process.wait(30) == ENGINE_FAILED


def test_l10_a_pass_that_does_not_end_is_said_and_forgiven(options: Sequence[str]) -> None:
    """Not ready after `stall_seconds`, not alive after six times that; both again as soon as the pass has ended."""
    process = Process(*options, under=failing.stall, SOFTPROMPT_STALL_SECONDS=str(STALL))
    with process.wait_until_ready() as client, process.client() as other:
        with client.stream("POST", "/generate_stream", json=LONG) as stream:
            lines = (line for line in stream.iter_lines() if line)
            next(lines)
            process.send(signal.SIGUSR1)
            until(lambda: probe(other, "/readyz") == (503, "engine_stalled"), "it is not ready")
            assert probe(other, "/livez") == (200, None)
            until(lambda: probe(other, "/livez") == (503, "engine_stalled"), "it is not alive")
            assert silent(other) > STALL
            process.send(signal.SIGUSR2)
            assert json.loads(list(lines)[-1].removeprefix("data: "))["details"]["usage"]["completion_tokens"] == 200
        assert probe(other, "/livez") == probe(other, "/readyz") == (200, None)
        until(lambda: silent(other) == 0, "nothing is to do")
    assert process.end() == 0


def test_l10_a_stalled_engine_does_not_hold_the_end_up(options: Sequence[str]) -> None:
    """Its stream still gets an error event as the last, and the exit code is 0 in time."""
    process = Process(*options, under=failing.stall, SOFTPROMPT_DRAIN_SECONDS="1")
    with process.wait_until_ready() as client:
        with client.stream("POST", "/generate_stream", json=LONG) as stream:
            lines = (line for line in stream.iter_lines() if line)
            next(lines)
            process.send(signal.SIGUSR1)
            process.send(signal.SIGTERM)
            began = time.monotonic()
            last = json.loads(list(lines)[-1].removeprefix("data: "))
        assert process.wait() == 0
        assert time.monotonic() - began <= 1 + LATEST_SECONDS + BUSY
    assert last["error"]["code"] == "draining"


def test_l10_a_starved_process_says_so_or_nothing_and_keeps_deadlines(options: Sequence[str]) -> None:
    """Stopped from outside, then a hundredth of a core: requests end by their deadlines, and it is well afterwards."""
    process = Process(*options, SOFTPROMPT_STALL_SECONDS=str(STALL))
    one = {**LONG, "parameters": {**LONG["parameters"], "timeout_ms": 1000}}
    many = {**one, "parameters": {**one["parameters"], "n": 16}}
    with process.wait_until_ready() as client, process.client() as other:
        with client.stream("POST", "/generate_stream", json=one) as stream:
            lines = (line for line in stream.iter_lines() if line)
            next(lines)
            process.send(signal.SIGSTOP)
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(f"{process.url}/readyz", timeout=2, trust_env=False)
            process.send(signal.SIGCONT)
            began = time.monotonic()
            last = json.loads(list(lines)[-1].removeprefix("data: "))
            assert time.monotonic() - began < SECONDS_LATE
            assert last["error"]["code"] == "timeout"
        until(lambda: probe(other, "/readyz") == (200, None), "it is ready again")
        with limited(cpu(0.03), process.pid):
            began = time.monotonic()
            answer = client.post("/generate", json=many)
            late = time.monotonic() - began - 1.0
            assert (answer.status_code, answer.json()["error"]["code"]) == (408, "timeout")
            assert late < SECONDS_LATE
        until(lambda: probe(other, "/readyz") == (200, None), "it is ready again")
    assert process.end() == 0


def test_l4_a_process_without_memory_dies_and_the_store_is_whole(options: Sequence[str], store: Path) -> None:
    """Killed by its limit in the middle of streams and publishes: exit code not 0, nothing acknowledged is lost."""
    process = Process(*options)
    published: list[str] = []
    with process.wait_until_ready() as client, limited(memory(MEMORY), process.pid):
        try:
            for number in range(500):
                answer = client.put("/tasks/b", json={"template": f"{number} {{input}}"})
                if answer.status_code == 201:
                    published.append(answer.json()["digest"])
                client.post("/generate", json={**LONG, "parameters": {**LONG["parameters"], "n": 16}})
                assert probe(client, "/livez") == (200, None)
        except httpx.TransportError:
            pass
        assert process.wait() != 0
    found = [digest for _, digest in history(Store.open(str(store)), "b")] if published else []
    assert found[: len(published)] == published
    with serving(*options) as (_, client):
        assert client.post("/generate", json={**ASK, "task": "a"}).status_code == 200


def silent(client: httpx.Client) -> float:
    """What the metric says."""
    name = "softprompt_engine_silent_seconds "
    return float(next(line for line in client.get("/metrics").text.splitlines() if line.startswith(name)).split()[1])
