"""A whole server killed, or told to end, in the middle of what it does (rows P6, P7, P8 and X3)."""

import json
import signal
import time
from itertools import islice
from pathlib import Path

import httpx
import pytest

from prompt_store.local import TEMPORARY
from prompt_store.store import Store
from tests.e2e.process import Process, serving
from tests.e2e.test_jobs import STEPS, options, until_status
from tests.faults.operations import history
from tests.faults.servers import attached, traced
from tests.faults.service import ends
from tests.prompt_store.make import put, text_task
from tests.server.jobs.asking import create, method
from tests.server.jobs.conftest import client_of
from tests.server.site import until
from tests.tools import tool

READY_SECONDS = 60.0
"""For a start after a kill, on a busy machine too."""
SERVER_KILLS = 2
OLD, NEW = text_task("old {input}"), text_task("new {input}")


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With one task."""
    put(Store.open(str(tmp_path / "store")), "a", OLD, "old")
    return tmp_path / "store"


def test_p6_a_kill_in_a_stream_is_seen_and_harms_no_store(base_folder: Path, store: Path) -> None:
    """The client never takes half an answer for a whole one; not a byte of the store changes; the next start serves."""
    before = contents(store)
    process = Process("--model", str(base_folder), "--store", str(store))
    ask = {"task": "a", "inputs": "x", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}
    heard: list[str] = []
    with process.wait_until_ready() as client, client.stream("POST", "/generate_stream", json=ask) as stream:
        lines = stream.iter_lines()
        heard.append(next(lines))
        process.send(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            heard.extend(lines)
    process.wait()
    assert heard
    assert not [line for line in heard if line and json.loads(line.removeprefix("data: ")).get("details")]
    assert contents(store) == before
    began = time.monotonic()
    with serving("--model", str(base_folder), "--store", str(store)) as (_, client):
        assert time.monotonic() - began < READY_SECONDS
        assert client.post("/generate", json={**ask, "parameters": {"max_new_tokens": 1}}).status_code == 200


@pytest.mark.parametrize("kill", ["fsync", "rename"])
def test_p7_a_job_killed_while_it_is_saved_goes_on(base_folder: Path, tmp_path: Path, kill: str) -> None:
    """At a flush of one of its files, and as that takes its name: after a restart the job succeeds, once."""
    tool("strace")
    given, variables = options(base_folder, tmp_path)
    process = Process(*given, **variables)
    with process.wait_until_ready() as http:
        job = create(client_of(str(http.base_url)), "learnt", method(told={**STEPS, "steps": 150})).id
        folder = tmp_path / "jobs" / "jobs" / job
        until((folder / "checkpoint.safetensors").exists, "a checkpoint", 60)
        with attached(process, tmp_path / "trace", f"{kill}:signal=KILL:when=1"):
            assert process.wait(60) == -signal.SIGKILL
    assert job in (tmp_path / "trace").read_text(), "it was killed at another file than the job's"
    with serving(*given, **variables) as (_, http):
        until_status(tmp_path, job, "succeeded", "failed")
        assert json.loads((folder / "job.json").read_text())["status"] == "succeeded"
        assert [row["version"] for row in http.get("/tasks/learnt/versions").json()["data"]] == [1]
        assert not list((tmp_path / "jobs").rglob("*.fresh"))


def test_p8_kills_of_a_server_under_load_lose_nothing(tmp_path: Path) -> None:
    """Four clients publish, delete, roll back and generate over HTTP when it is killed, twice on one store."""
    outcomes = list(islice(ends(tmp_path, 1, signal.SIGKILL), SERVER_KILLS))
    assert len(outcomes) == SERVER_KILLS
    assert not [outcome for outcome in outcomes if outcome.lost]


@pytest.mark.parametrize(
    "step",
    ["fsync:signal=TERM:when=1", "fsync:signal=TERM:when=3", "link:signal=TERM:when=1", "link:signal=TERM:when=2"],
)
def test_x3_an_upload_during_which_the_server_is_told_to_end(base_folder: Path, store: Path, step: str) -> None:
    """SIGTERM at a flush or a link, of its file or of its manifest: it is finished and answered, or never was."""
    tool("strace")
    with traced(base_folder, store, store.with_name("trace"), step) as (process, client):
        try:
            answer = client.put("/tasks/a", json={"template": "new {input}"}).status_code
        except httpx.TransportError:
            answer = 0
        assert process.wait() == 0
    after = Store.open(str(store))
    found = [event for event, _ in history(after, "a")]
    assert len(found) == 2 or answer != 201
    assert len(found) in {1, 2}
    assert list((store / TEMPORARY).iterdir()) == []
    assert answer in {0, 201, 503}
