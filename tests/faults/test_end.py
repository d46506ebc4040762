"""A server that is told to end: what it answers meanwhile, and that it is gone in time (X1, X2)."""

import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from server.leaving import LATEST_SECONDS
from tests import forked
from tests.e2e.process import Process
from tests.faults import failing
from tests.faults.clinging import HEAD, LONG, Cling, deaf, half_sent, handshaking, kept, sent, silent
from tests.server.certificates import files
from tests.server.site import read_answer, status, until

DRAIN = 2.0
BUSY = 1.0
"""Seconds for a machine with more to do than it can."""
LATEST = DRAIN + LATEST_SECONDS + BUSY
"""From the signal to the end, whatever clients do."""
LONG_DRAIN, AT_ONCE = 60.0, 15.0
CROWD = 8
TOLD_BY_TORCH = """
class Told:
    def find_spec(self, name, *_):
        if name == "torch":
            os.kill(os.getpid(), int(sys.orig_argv[-1]))
sys.meta_path.insert(0, Told())
"""
"""A finder that sends the signal when torch is about to be imported."""


@pytest.fixture
def options(base_folder: Path) -> tuple[str, ...]:
    return ("--model", str(base_folder), "--store", "memory://")


@contextmanager
def draining(process: Process, number: signal.Signals = signal.SIGTERM) -> Iterator[float]:
    """From the signal on; gives its moment."""
    began = time.monotonic()
    process.send(number)
    process.wait_for("draining")
    yield began


def ends_in_time(process: Process, began: float, latest: float = LATEST) -> None:
    """Exit code 0 within so many seconds of `began`; how many it took stands in the captured output."""
    assert process.wait() == 0, process.other
    took = time.monotonic() - began
    assert took <= latest, f"gone after {took:.2f} s"
    sys.stderr.write(f"gone after {took:.2f} s\n")


@pytest.mark.parametrize(
    ("clings", "drain", "latest"),
    [
        ((), LONG_DRAIN, AT_ONCE),
        ((silent, kept, handshaking), LONG_DRAIN, AT_ONCE),
        ((half_sent, deaf, silent, kept, handshaking), DRAIN, LATEST),
    ],
    ids=["idle", "nothing runs", "everybody"],
)
def test_x1_it_is_gone_in_time_whoever_clings_to_it(
    options: Sequence[str], clings: Sequence[Cling], drain: float, latest: float
) -> None:
    """Exit code 0: at once where nothing runs, else within two seconds of the drain's end."""
    patient = {"SOFTPROMPT_RECEIVE_SECONDS": "600", "SOFTPROMPT_WRITE_SECONDS": "600"}
    process = Process(*options, SOFTPROMPT_DRAIN_SECONDS=str(drain), **patient)
    with process.wait_until_ready() as client, ExitStack() as held:
        for cling in clings:
            held.enter_context(cling(process.url))
        assert client.get("/livez").status_code == 200
        with draining(process) as began:
            ends_in_time(process, began, latest)


def test_x1_under_load_what_runs_is_finished_or_told_in_time(options: Sequence[str]) -> None:
    """A crowd of generations, streams among them: each whole, or 503 `draining`, or an error event as the last."""
    process = Process(*options, SOFTPROMPT_DRAIN_SECONDS=str(DRAIN))
    ends: list[str] = []

    def ask(streamed: bool) -> None:
        wide = {**LONG, "parameters": {**LONG["parameters"], **({} if streamed else {"n": 8})}, "stream": streamed}
        answer = httpx.post(f"{process.url}/generate", json=wide, timeout=60, trust_env=False)
        last = answer.text.strip().removeprefix("data: ").rpartition("data: ")[2]
        told = json.loads(last if streamed else answer.text)
        ends.append(told["error"]["code"] if "error" in told else "whole")

    with process.wait_until_ready() as client:
        crowd = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(2 * CROWD)]
        for thread in crowd:
            thread.start()
        until(lambda: client.get("/info").json()["engine"]["running"] >= CROWD, "they run")
        with draining(process) as began:
            ends_in_time(process, began)
        for thread in crowd:
            thread.join()
    assert len(ends) == 2 * CROWD
    assert set(ends) <= {"whole", "draining"}


def test_x1_readiness_goes_first_and_new_work_is_told(options: Sequence[str]) -> None:
    """New connections are answered while it drains: probes and reads as they are, everything else 503 `draining`."""
    process = Process(*options, SOFTPROMPT_DRAIN_SECONDS="60", SOFTPROMPT_RECEIVE_SECONDS="600")
    with process.wait_until_ready() as client:
        started = sent(process.url, HEAD + b"Content-Length: 14\r\n\r\n")
        client.put("/tasks/a", json={"template": "{input}"})
        with started, draining(process):
            told: dict[str, tuple[int, str | None]] = {}
            asked: dict[str, tuple[str, Any]] = {
                "/livez": ("GET", None),
                "/readyz": ("GET", None),
                "/tasks/a": ("GET", None),
                "/generate": ("POST", {"inputs": "x"}),
                "/classify": ("POST", {"inputs": "x", "labels": ["a", "b"]}),
                "/v1/completions": ("POST", {"model": "base", "prompt": "x"}),
                "/tasks/b": ("PUT", {"template": "{input}"}),
                "/v1/fine_tuning/jobs": ("POST", {}),
            }
            for path, (method, body) in asked.items():
                answer = httpx.request(method, process.url + path, json=body, timeout=60, trust_env=False)
                assert answer.headers["connection"] == "close", path
                assert answer.status_code == 200 or answer.headers["retry-after"] == "1", path
                told[path] = answer.status_code, answer.json().get("error", {}).get("code")
            fine, refused = (200, None), (503, "draining")
            assert told == {path: fine if path in {"/livez", "/tasks/a"} else refused for path in asked}
            started.sendall(b'{"inputs":"x"}')
            began = time.monotonic()
            assert status(read_answer(started)) == 200, "what had begun was not finished"
            ends_in_time(process, began, AT_ONCE)


def test_x1_a_body_that_never_comes_is_told_at_the_end(options: Sequence[str]) -> None:
    """503 `draining`, not a broken connection or 500."""
    process = Process(*options, SOFTPROMPT_DRAIN_SECONDS="0.3", SOFTPROMPT_RECEIVE_SECONDS="600")
    with process.wait_until_ready() as client, sent(process.url, HEAD + b"Content-Length: 9\r\n\r\n") as half:
        assert client.get("/livez").status_code == 200
        with draining(process) as began:
            answer = read_answer(half)
            ends_in_time(process, began)
    assert (status(answer), json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]) == (503, "draining")
    assert b"connection: close" in answer.lower()


def test_x1_tls_clients_do_not_hold_the_end_up(options: Sequence[str], tmp_path: Path) -> None:
    """A handshake that is not gone on with, and a kept connection whose client does not say goodbye."""
    authority, trust = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trust)
    own = {f"SOFTPROMPT_{name.upper()}": value for name, value in files(tmp_path, authority).items()}
    process = Process(*options, SOFTPROMPT_DRAIN_SECONDS=str(LONG_DRAIN), **own)
    with process.wait_until_ready(trust) as client, handshaking(process.url):
        assert client.get("/livez").status_code == 200
        with draining(process) as began:
            ends_in_time(process, began, AT_ONCE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_x2_each_signal_drains_and_a_second_is_immediate(options: Sequence[str], number: signal.Signals) -> None:
    """Exit code 0 both times, however long the drain may take."""
    default = partial(signal.signal, number, signal.SIG_DFL)  # these tests may be run under nohup
    process = Process(*options, under=default, SOFTPROMPT_DRAIN_SECONDS="600", SOFTPROMPT_RECEIVE_SECONDS="600")
    with process.wait_until_ready() as client, half_sent(process.url):
        assert client.get("/livez").status_code == 200
        with draining(process, number):
            assert client.get("/readyz").json()["error"]["code"] == "draining"
            began = time.monotonic()
            process.send(signal.SIGTERM)
            ends_in_time(process, began, AT_ONCE)


def test_x2_a_signal_before_it_serves_ends_it_at_once(options: Sequence[str]) -> None:
    """While the base is read: exit code 0, and it was never ready."""
    process = Process(*options, under=failing.told_early)
    assert process.wait() == 0, process.other
    assert [entry["event"] for entry in process.log] == ["stopped at once"]


def test_x2_a_signal_between_imports_and_server_ends_it_at_once(options: Sequence[str]) -> None:
    """There is no moment in which it would end it in another way."""
    process = Process(*options, under=failing.told_between)
    assert process.wait() == 0, process.other
    assert process.log == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_x2_a_signal_among_the_imports_ends_it_too(number: signal.Signals) -> None:
    """Before anything of the server is there to hear of it: exit code 0, and not a word."""
    code = f"import os, sys\nsys.argv = ['softprompt', 'serve']\n{TOLD_BY_TORCH}\nfrom cli.main import app\napp()"
    command = [sys.executable, "-c", code, str(number.value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_x2_a_broken_pipe_ends_nothing(options: Sequence[str]) -> None:
    """SIGPIPE itself, and writing to a reader of the log that has gone."""
    with forked.started(["serve", *options, "--port", "0"], {"SOFTPROMPT_JOBS": ""}) as server:
        url = next(json.loads(line)["url"] for line in server.stderr if '"ready"' in line)
        server.stderr.close()
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            assert client.get("/livez").status_code == 200
            server.send_signal(signal.SIGPIPE)
            assert client.get("/readyz").status_code == 200
        server.terminate()
        assert server.wait(60) == 0


def test_x2_under_nohup_a_hang_up_is_nothing(options: Sequence[str]) -> None:
    """Whoever ignores it for the process has it ignored."""
    process = Process(*options, under=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN))
    with process.wait_until_ready() as client:
        process.send(signal.SIGHUP)
        assert client.get("/readyz").status_code == 200
    assert process.end() == 0
