"""How a server ends: readiness first, what runs finishes, exit code 0, in bounded time; and how it refuses to start."""

import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.e2e.process import Process, serving
from tests.models import save
from tests.server.site import connect

HALF = b"PUT /tasks/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx"
LONG: dict[str, Any] = {"inputs": "play", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}


def test_what_runs_is_finished_before_the_end(base_folder: Path) -> None:
    """SIGTERM under load: nothing new is let in, every started answer arrives whole, exit code 0."""
    with serving("--model", str(base_folder), "--store", "memory://") as (process, client):
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{process.url}/generate", json=LONG, timeout=60, trust_env=False))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        with httpx.stream("POST", f"{process.url}/generate_stream", json=LONG, timeout=60, trust_env=False) as stream:
            lines = stream.iter_lines()
            next(lines)
            while client.get("/info").json()["engine"]["running"] < 5:
                pass
            process.send(signal.SIGTERM)
            events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 4
        assert all(answer.json()["usage"]["completion_tokens"] == 200 for answer in answers)
        assert events[-1]["details"]["usage"]["completion_tokens"] == 200
        assert process.wait() == 0
        with pytest.raises(httpx.ConnectError):
            client.get("/livez")


def test_what_the_drain_cuts_off_is_told_so(base_folder: Path) -> None:
    """At the deadline an answer is 503 `draining` with a request id, a stream ends in an error event; exit code 0."""
    options = ("--model", str(base_folder), "--store", "memory://")
    with serving(*options, SOFTPROMPT_DRAIN_SECONDS="0.001") as (process, client):
        answers: list[httpx.Response] = []
        crowd = {"inputs": "play", "parameters": {**LONG["parameters"], "n": 16}}

        def ask() -> None:
            answers.append(httpx.post(f"{process.url}/generate", json=crowd, timeout=60, trust_env=False))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        with httpx.stream("POST", f"{process.url}/generate_stream", json=LONG, timeout=60, trust_env=False) as stream:
            lines = stream.iter_lines()
            next(lines)
            while client.get("/info").json()["engine"]["running"] < 49:
                pass
            process.send(signal.SIGTERM)
            events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
        for thread in threads:
            thread.join()
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(503, "draining")] * 3
        assert all(answer.headers["x-request-id"] for answer in answers)
        assert events[-1]["error"]["code"] == "draining"
        assert process.wait() == 0


def test_a_second_signal_does_not_wait_for_what_runs(base_folder: Path) -> None:
    """However long the drain may take."""
    options = ("--model", str(base_folder), "--store", "memory://")
    with serving(*options, SOFTPROMPT_DRAIN_SECONDS="600") as (process, client):
        crowd = {"requests": [{**LONG, "parameters": {**LONG["parameters"], "n": 16}}] * 200}

        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError):  # cut off, one way or another
                httpx.post(f"{process.url}/generate", json=crowd, timeout=60, trust_env=False)

        thread = threading.Thread(target=ask)
        thread.start()
        while client.get("/info").json()["engine"]["running"] < 32:
            pass
        process.send(signal.SIGTERM)
        process.wait_for("draining")
        process.send(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - began < 15, "3,200 generations take longer"
        thread.join()


def test_a_half_sent_body_does_not_hold_the_end_up(base_folder: Path) -> None:
    """The body's deadline and the drain's bound the time, whatever clients do; a second signal does not wait."""
    options = ("--model", str(base_folder), "--store", "memory://")
    patient = {"SOFTPROMPT_RECEIVE_SECONDS": "600"}
    with serving(*options, **patient, SOFTPROMPT_DRAIN_SECONDS="1") as (process, client), connect(process.url) as half:
        half.sendall(HALF)
        assert client.get("/livez").status_code == 200
        process.send(signal.SIGTERM)
        assert process.wait(30) == 0
    with (
        serving(*options, **patient, SOFTPROMPT_DRAIN_SECONDS="600") as (process, client),
        connect(process.url) as half,
    ):
        half.sendall(HALF)
        assert client.get("/livez").status_code == 200
        process.send(signal.SIGINT)
        process.wait_for("draining")
        process.send(signal.SIGINT)
        assert process.wait(30) == 0


def refused(*options: str, **variables: str) -> str:
    """What `softprompt serve` says when it will not start; exit code 2, no traceback."""
    result = CliRunner(env={"SOFTPROMPT_STORE": "memory://", **variables}).invoke(app, ["serve", *options])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


def test_a_base_that_cannot_be_served_is_named(tmp_path: Path) -> None:
    """Missing, pickled, in pieces, cut short, or with code of its own: it never serves."""
    assert "nowhere" in refused("--model", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused("--model", str(tmp_path / "empty"))
    own_code = save(tmp_path / "code")
    config: dict[str, Any] = json.loads((own_code / "config.json").read_text())
    (own_code / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    assert "auto_map" in refused("--model", str(own_code))
    cut = save(tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "model.safetensors" in refused("--model", str(cut)) or "cut" in refused("--model", str(cut))
    without = save(tmp_path / "without")
    (without / "tokenizer.json").unlink()
    (without / "tokenizer_config.json").unlink()
    assert refused("--model", str(without))


def test_settings_that_cannot_be_are_named(base_folder: Path) -> None:
    """One line a fault: an open address without keys, a short key, a negative limit, a mistyped variable."""
    model = ("--model", str(base_folder))
    assert "SOFTPROMPT_API_KEY" in refused(*model, "--host", "0.0.0.0")  # noqa: S104 - refused
    assert "16 characters" in refused(*model, SOFTPROMPT_ADMIN_KEY="short")
    assert "kv_budget" in refused(*model, "--kv-budget", "-1")
    assert "K/V budget" in refused(*model, "--kv-budget", "1K")
    assert "SOFTPROMPT_STOER" in refused(*model, SOFTPROMPT_STOER="x")
    assert "bucket" in refused(*model, "--store", "s3://")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[1]"),
        ("config.json", "no json"),
        ("config.json", None),
        ("tokenizer.json", '{"model": 3}'),
        ("model.safetensors.index.json", "{}"),
    ],
)
def test_a_base_that_cannot_be_read_is_said_in_one_line(name: str, content: str | None, tmp_path: Path) -> None:
    """With its folder, whatever transformers stumbles over; None: a size that is null."""
    folder = save(tmp_path / "odd-base")
    if content is None:
        config = json.loads((folder / name).read_text(encoding="utf-8"))
        content = json.dumps({**config, "num_key_value_heads": None})
    (folder / name).write_text(content, encoding="utf-8")
    said = refused("--model", str(folder), "--store", "memory://", "--port", "0")
    assert "odd-base" in said or "config.json" in said
    assert "Traceback" not in said


def test_an_address_that_is_taken_is_said_at_once(base_folder: Path) -> None:
    """Before anything is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in refused("--model", str(base_folder), "--port", str(port))


def test_a_process_that_is_never_ready_is_none(tmp_path: Path) -> None:
    """The executable itself refuses with exit code 2 and a line on standard error."""
    process = Process("--model", str(tmp_path / "nowhere"))
    assert process.wait() == 2
    assert any("nowhere" in line for line in process.other)
