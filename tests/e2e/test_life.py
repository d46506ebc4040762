"""A real process on a real socket: upload, generate, replace under load, roll back, delete, restart, list."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from prompt_store.prompt import parse
from tests.e2e.process import Process, serving
from tests.server.site import embeddings

SECRET = "Xq7ZsecretQ"
CLIENTS = 4
REPLACEMENTS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(base_folder: Path, store: Path) -> Iterator[tuple[Process, httpx.Client]]:
    with serving("--model", str(base_folder), "--store", str(store)) as found:
        yield found


def generate(client: httpx.Client, task: str, inputs: str, **fields: Any) -> dict[str, Any]:
    body = {"task": task, "inputs": inputs, "parameters": {"max_new_tokens": 12}, **fields}
    answer = client.post("/generate", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_was_acknowledged_is_there_after_a_restart(base_folder: Path, tmp_path: Path) -> None:
    """Versions, a roll back, a tombstone and the answers themselves outlive the process."""
    options = ("--model", str(base_folder), "--store", str(tmp_path))
    with serving(*options) as (_, client):
        client.put("/tasks/kept", content=embeddings(None, "play {text}", 4, seed=1).data)
        client.put("/tasks/kept", json={"template": "stop {text}"})
        client.post("/tasks/kept/rollback", json={"version": 1})
        client.put("/tasks/gone", json={"template": "{text}"})
        client.delete("/tasks/gone")
        before = generate(client, "kept", "some jazz")
        history = client.get("/tasks/kept/versions").json()
    with serving(*options) as (_, client):
        assert [task["id"] for task in client.get("/tasks").json()["data"]] == ["kept"]
        assert client.get("/tasks/kept/versions").json() == history
        after = generate(client, "kept", "some jazz")
        assert after["generated_text"] == before["generated_text"]
        assert (after["version"], after["digest"]) == (3, before["digest"])
        assert client.get("/tasks/gone").status_code == 404


def test_the_commands_do_what_they_say(server: tuple[Process, httpx.Client], tmp_path: Path) -> None:
    """push, tasks, generate, pull, rollback, rm against a running server."""
    process, _ = server
    runner = CliRunner(env={"SOFTPROMPT_URL": process.url, "NO_PROXY": "127.0.0.1", "COLUMNS": "200"})

    def run(*arguments: str, code: int = 0) -> str:
        result = runner.invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    file = embeddings(None, "play {text}", 3, seed=7)
    (tmp_path / "one.safetensors").write_bytes(file.data)
    (tmp_path / "two.json").write_text('{"template": "stop {text}"}')
    assert "is now version 1" in run("push", "commanded", str(tmp_path / "one.safetensors"))
    assert "already was version 1" in run("push", "commanded", str(tmp_path / "one.safetensors"))
    assert "is now version 2" in run("push", "commanded", str(tmp_path / "two.json"))
    assert "commanded" in run("tasks", "--search", "comm")
    assert '"id": "commanded"' in run("tasks", "--json")
    assert run("generate", "commanded", "jazz", "--max-new-tokens", "3")
    run("pull", "commanded", "--version", "1", "--out", str(tmp_path / "back.safetensors"))
    assert parse((tmp_path / "back.safetensors").read_bytes()).digest == file.digest
    assert "is now version 3" in run("rollback", "commanded", "1")
    assert "deleted" in run("rm", "commanded")
    assert "task_not_found" in run("rm", "commanded", code=1)
    assert "did not answer" in run("tasks", "--url", "http://127.0.0.1:9", code=1)


def test_log_lines_hold_no_payload(server: tuple[Process, httpx.Client]) -> None:
    """One JSON line a request, with its id; not the text, not the path, not the key."""
    process, client = server
    headers = {"x-request-id": "traced-1", "Authorization": f"Bearer {SECRET}"}
    client.post("/generate", json={"inputs": SECRET, "parameters": {"max_new_tokens": 1}}, headers=headers)
    client.get(f"/tasks/{SECRET}%1b", headers=headers)
    client.get("/livez", headers={"x-request-id": "traced-2"})
    lines = [entry for entry in process.log if entry["event"] == "request"]
    while not any(entry["request_id"] == "traced-2" for entry in lines):
        client.get("/livez")
        lines = [entry for entry in process.log if entry["event"] == "request"]
    assert {entry["status"] for entry in lines if entry["request_id"] == "traced-1"} == {200, 404}
    assert SECRET not in str(process.log)
    assert SECRET not in "".join(process.other)


def test_the_start_says_what_was_chosen(server: tuple[Process, httpx.Client], store: Path) -> None:
    """Base, device, dtype, budgets, store and who may come in."""
    told = "".join(server[0].other)
    for part in ("cpu, float32", "256 tokens", str(store), "none yet", "4.0 GiB", "whoever reaches this address"):
        assert part in told.replace("\n", "")
