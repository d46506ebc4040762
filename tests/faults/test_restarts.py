"""Restarts of a whole server under load: streams, uploads, jobs, and a store that was left half-written."""

import json
import signal
import threading
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from prompt_store.keys import blob_key
from prompt_store.local import TEMPORARY
from prompt_store.store import Store
from tests.e2e.process import Process, serving
from tests.e2e.test_jobs import STEPS, options, until_it_learns, until_status
from tests.faults.clinging import LONG, sent
from tests.faults.operations import history
from tests.faults.servers import traced
from tests.faults.service import ends
from tests.faults.test_service import READY_SECONDS
from tests.prompt_store.make import ONE, put, text_task
from tests.server.jobs.asking import create, method
from tests.server.jobs.conftest import client_of
from tests.server.site import read_answer, status, until
from tests.tools import tool

ENDS = 2
STREAMS = 6
LEFT = 10_000
SLOW_SECONDS = 4
END = b"0\r\n\r\n"
OLD = text_task("old {input}")
TERM, KILL = signal.SIGTERM, signal.SIGKILL


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With one task."""
    put(Store.open(str(tmp_path / "store")), "a", OLD, "old")
    return tmp_path / "store"


def test_x1_restarts_under_load_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """Four clients publish, delete, roll back and generate when it is told to end; exit code 0 in time, every time."""
    outcomes = list(islice(ends(tmp_path, 1, TERM), ENDS))
    assert len(outcomes) == ENDS
    assert not [outcome for outcome in outcomes if outcome.lost]


class Listener(threading.Thread):
    """Reads a stream to the end of its connection."""

    def __init__(self, url: str, path: str) -> None:
        super().__init__()
        own = "inputs" if path == "/generate_stream" else "prompt"
        fields = {"inputs": LONG["inputs"], "parameters": LONG["parameters"]}
        if own == "prompt":
            fields = {"model": "base", "prompt": "play", "max_tokens": 200, "ignore_eos": True, "stream": True}
        body = json.dumps(fields).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._connection = sent(url, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.heard = b""

    def run(self) -> None:
        with self._connection:
            try:
                while chunk := self._connection.recv(65536):
                    self.heard += chunk
            except ConnectionError:
                return

    @property
    def looks_whole(self) -> bool:
        """Whether the transfer ended as it should."""
        return self.heard.endswith(END)

    @property
    def says_how_it_ended(self) -> bool:
        """An error event, or the last one of a whole answer."""
        return b'"error":' in self.heard or b'"details":{' in self.heard or b"data: [DONE]" in self.heard


@pytest.mark.parametrize("signals", [(TERM,), (TERM, TERM), (KILL,)], ids=["drained", "at once", "killed"])
def test_x10_no_stream_that_was_cut_off_looks_whole(base_folder: Path, signals: Sequence[signal.Signals]) -> None:
    """Each ends in an error event, or breaks in the middle of its chunks; the next server serves."""
    given = ("--model", str(base_folder), "--store", "memory://")
    process = Process(*given, SOFTPROMPT_DRAIN_SECONDS="0.2" if signals == (TERM,) else "60")
    with process.wait_until_ready() as client:
        listeners = [Listener(process.url, ("/generate_stream", "/v1/completions")[n % 2]) for n in range(STREAMS)]
        for listener in listeners:
            listener.start()
        until(lambda: client.get("/info").json()["engine"]["running"] == STREAMS, "they run")
        until(lambda: all(b"data:" in listener.heard for listener in listeners), "they are told something")
        process.send(signals[0])
        for number in signals[1:]:
            process.wait_for("draining")  # two that wait to be delivered are one
            process.send(number)
        process.wait()
        for listener in listeners:
            listener.join()
    assert not [one.heard[-300:] for one in listeners if one.looks_whole and not one.says_how_it_ended]
    if signals == (TERM,):
        assert all(one.looks_whole and one.says_how_it_ended for one in listeners), "some were told nothing"
    else:
        assert not all(one.looks_whole for one in listeners), "nothing was cut off"


def test_x3_an_upload_that_had_begun_is_finished(base_folder: Path, store: Path) -> None:
    """SIGTERM in the middle of its body; the rest comes while the server drains: 201, and it is there."""
    body = b'{"template":"new {input}"}'
    head = b"PUT /tasks/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    process = Process("--model", str(base_folder), "--store", str(store), SOFTPROMPT_DRAIN_SECONDS="60")
    with process.wait_until_ready() as client, sent(process.url, head % len(body) + body[:9]) as connection:
        assert client.get("/livez").status_code == 200
        process.send(TERM)
        process.wait_for("draining")
        connection.sendall(body[9:])
        assert status(read_answer(connection)) == 201
        assert process.wait(30) == 0
    assert [event for event, _ in history(Store.open(str(store)), "a")] == ["publish", "publish"]


def test_x3_a_change_that_nobody_waits_for_any_more_is_finished(base_folder: Path, store: Path) -> None:
    """Its client was told `outcome_unknown`; SIGTERM comes while the disk still flushes: then it is there."""
    tool("strace")
    slow = f"fsync:delay_enter={SLOW_SECONDS * 10**6}:when=1"
    with traced(base_folder, store, store.with_name("trace"), slow, SOFTPROMPT_STORE_SECONDS="0.2") as (
        process,
        client,
    ):
        answer = client.put("/tasks/a", json={"template": "new {input}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "outcome_unknown")
        process.send(TERM)
        assert process.wait() == 0
    assert [event for event, _ in history(Store.open(str(store)), "a")] == ["publish", "publish"]


def test_x4_a_job_is_put_aside_and_goes_on(base_folder: Path, tmp_path: Path) -> None:
    """SIGTERM while it learns: exit code 0 in time, it waits with a checkpoint, and succeeds after the restart."""
    given, variables = options(base_folder, tmp_path)
    with serving(*given, **variables) as (process, http):
        job = create(client_of(str(http.base_url)), "learnt", method(told=STEPS)).id
        until_it_learns(tmp_path, job)
        began = time.monotonic()
        process.send(TERM)
        assert process.wait() == 0
        assert time.monotonic() - began < 15, "the drain's thirty seconds were waited for"
    folder = tmp_path / "jobs" / "jobs" / job
    record = json.loads((folder / "job.json").read_text())
    assert (record["status"], record["attempts"]) == ("queued", 0)
    assert (folder / "checkpoint.safetensors").exists()
    with serving(*given, **variables) as (_, http):
        until_status(tmp_path, job, "succeeded", "failed")
        assert json.loads((folder / "job.json").read_text())["status"] == "succeeded"
        assert [row["version"] for row in http.get("/tasks/learnt/versions").json()["data"]] == [1]


def test_x8_a_server_is_ready_over_a_half_written_store(base_folder: Path, store: Path) -> None:
    """Ten thousand leftovers, a file that no version names, a task whose first version never came."""
    for number in range(LEFT):
        (store / TEMPORARY / str(number)).write_bytes(b"half")
    (store / blob_key(ONE.digest)).write_bytes(ONE.data)
    (store / "tasks" / "begun!").mkdir()
    began = time.monotonic()
    with serving("--model", str(base_folder), "--store", str(store)) as (_, client):
        assert time.monotonic() - began < READY_SECONDS
        assert [task["id"] for task in client.get("/tasks").json()["data"]] == ["a"]
        assert client.put("/tasks/begun", json={"template": "{input}"}).json()["version"] == 1
    assert list((store / TEMPORARY).iterdir()) == []
