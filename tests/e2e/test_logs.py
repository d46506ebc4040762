"""The log of a real process: what each request's line says, and that no input ever stands in one."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.app import routes
from tests.e2e.process import Process, serving
from tests.server.site import connect, embeddings, read_answer

KEY, ADMIN = "Xq7Z-generate-key", "Xq7Z-admin-key-of-it"
CANARY = "Xq7Z"
"""In every text, template, label, name, path, query, header and key that is sent here; in no task that is there."""
FEW = {"max_new_tokens": 3, "ignore_eos": True}


@pytest.fixture(scope="module")
def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, httpx.Client]]:
    variables = {
        "SOFTPROMPT_API_KEY": KEY,
        "SOFTPROMPT_ADMIN_KEY": ADMIN,
        "SOFTPROMPT_JOBS": str(tmp_path_factory.mktemp("jobs")),
    }
    with serving("--model", str(base_folder), "--store", "memory://", **variables) as (process, client):
        client.headers["Authorization"] = f"Bearer {ADMIN}"
        file = embeddings(None, f"{CANARY} play {{text}}", 4)
        client.put("/tasks/known", content=file.data).raise_for_status()
        yield process, client


def line(process: Process, client: httpx.Client, request_id: str) -> dict[str, Any]:
    """The one line of a request, once it is there; asking again is what is waited with."""
    while True:
        found = [one for one in process.log if one["event"] == "request" and one["request_id"] == request_id]
        if found:
            (only,) = found
            return only
        client.get("/livez")


def test_a_line_says_what_a_request_was(server: tuple[Process, httpx.Client]) -> None:
    """Id, task and version, token counts as the answer's, reason, times; the same for a stream and for OpenAI's."""
    process, client = server
    asked = {"task": "known", "inputs": CANARY, "parameters": FEW}
    usage = client.post("/generate", json=asked, headers={"x-request-id": "whole"}).json()["usage"]
    client.post("/generate_stream", json=asked, headers={"x-request-id": "streamed"})
    theirs = {"model": "known", "prompt": CANARY, "max_tokens": 3, "ignore_eos": True}
    client.post("/v1/completions", json=theirs, headers={"x-request-id": "theirs"})
    for request_id, route in (("whole", "/generate"), ("streamed", "/generate_stream"), ("theirs", "/v1/completions")):
        found = line(process, client, request_id)
        assert (found["method"], found["route"], found["status"]) == ("POST", route, 200)
        assert (found["task"], found["version"], found["finish_reason"]) == ("known", 1, "length")
        assert (found["soft_tokens"], found["completion_tokens"]) == (4, 3)
        assert 0 <= found["queue_ms"] <= found["first_token_ms"] <= found["ms"]
        assert "code" not in found
    found = line(process, client, "whole")
    assert {name: found[name] for name in ("prompt_tokens", "cached_tokens")} == {
        name: usage[name] for name in ("prompt_tokens", "cached_tokens")
    }


def test_a_line_says_as_much_as_there_was(server: tuple[Process, httpx.Client]) -> None:
    """A classification, a batch of two tasks, a publish, a refusal, a client that left: each what is true of it."""
    process, client = server

    def told(request_id: str, method: str, path: str, **sent: Any) -> dict[str, Any]:
        client.request(method, path, headers={"x-request-id": request_id}, **sent)
        return line(process, client, request_id)

    scored = told("scored", "POST", "/classify", json={"task": "known", "inputs": "x", "labels": ["a", "b"]})
    assert (scored["task"], scored["version"], scored["soft_tokens"]) == ("known", 1, 4)
    assert scored["prompt_tokens"] > 0
    assert "finish_reason" not in scored
    items = [{"task": "known", "inputs": "x", "parameters": FEW}, {"inputs": "x", "parameters": FEW}]
    batch = told("batch", "POST", "/generate", json={"requests": [*items, {"task": "nobody", "inputs": "x"}]})
    assert (batch["task"], batch["items"], batch["completion_tokens"]) == ("mixed", 2, 6)
    assert (batch["status"], batch["code"]) == (200, "task_not_found")
    assert "version" not in batch
    made = told("made", "PUT", "/tasks/made", json={"template": "say {text}"})
    assert (made["status"], made["task"], made["version"]) == (201, "made", 1)
    refused = told("refused", "POST", "/generate", json={"task": "nobody", "inputs": "x"})
    assert (refused["status"], refused["code"]) == (404, "task_not_found")
    assert not {"task", "version", "prompt_tokens"} & set(refused)
    long = {"task": "known", "inputs": "x", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}
    with client.stream("POST", "/generate_stream", json=long, headers={"x-request-id": "left"}) as stream:
        next(stream.iter_lines())
    left = line(process, client, "left")
    assert 0 < left["completion_tokens"] < 200
    assert (left["task"], left["status"]) == ("known", 200)
    assert "finish_reason" not in left


def sweep(client: httpx.Client) -> int:
    """Every route with every kind of body, well-formed and not, with the canary wherever a client may put something."""
    sent = 0
    rich = {
        "task": CANARY, "model": CANARY, "inputs": CANARY, "prompt": CANARY, "template": CANARY, "labels": [CANARY],
        "messages": [{"role": "user", "content": CANARY}], "stop": [CANARY], "suffix": CANARY, CANARY: CANARY,
        "training_file": CANARY, "parameters": {"stop": [CANARY], CANARY: 1},
    }  # fmt: skip
    known = {"task": "known", "inputs": CANARY, "parameters": {**FEW, "stop": [CANARY]}, "labels": [CANARY, "b"]}
    bodies: list[tuple[bytes, str]] = [
        (json.dumps(rich).encode(), "application/json"),
        (json.dumps(known).encode(), "application/json"),
        (json.dumps({"requests": [rich, known]}).encode(), "application/json"),
        (f'{{"inputs": "{CANARY}"'.encode(), "application/json"),
        (CANARY.encode(), "application/octet-stream"),
        (CANARY.encode(), f"text/{CANARY}"),
        (f"--{CANARY}\r\n{CANARY}: {CANARY}\r\n\r\n{CANARY}".encode(), f"multipart/form-data; boundary={CANARY}"),
    ]
    for route in routes():
        path = route.path
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", f"{CANARY}%21" if sent % 2 else CANARY)
        for method in route.methods or ():
            for content, media_type in bodies:
                headers = {"Content-Type": media_type, "If-Match": f'"{CANARY}"', f"X-{CANARY}": CANARY}
                client.request(method, f"{path}?{CANARY}={CANARY}", content=content, headers=headers)
                client.request(method, path, content=content, headers=headers)
                sent += 2
    return sent


def odd_ones(client: httpx.Client) -> None:
    """What no route takes, what is no HTTP, what a stranger shows, and what goes well."""
    client.get(f"/{CANARY}", headers={"Authorization": f"Bearer {CANARY}"})
    client.request(CANARY, f"/tasks/{CANARY}")
    client.post("/generate", json=[CANARY], headers={"Content-Encoding": CANARY})
    client.get("/info", headers={"Host": f"{CANARY}_"})
    client.get(f"/info?{CANARY * 4000}")
    client.get("/info", headers={f"X-{number}": CANARY for number in range(200)})
    for broken in (f"GET /{CANARY} HTTP/9.9\r\n\r\n", f"{CANARY}\r\n\r\n", f"GET / HTTP/1.1\r\n{CANARY}\r\n\r\n"):
        with contextlib.suppress(ConnectionError), connect(str(client.base_url)) as connection:
            connection.sendall(broken.encode())
            read_answer(connection)
    client.put("/tasks/other", json={"template": f"{CANARY} {{text}}", "description": CANARY, "labels": [CANARY, "b"]})
    client.patch("/tasks/other", json={"description": CANARY * 2})
    client.post("/classify", json={"task": "other", "inputs": CANARY})
    client.post("/render", json={"task": "other", "inputs": CANARY})
    rows = "".join(json.dumps({"text": f"{CANARY} {number}", "act": CANARY}) + "\n" for number in range(4))
    client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (f"{CANARY}.jsonl", rows)})
    client.delete("/tasks/other")


def test_no_input_stands_in_any_line(server: tuple[Process, httpx.Client]) -> None:
    """Whatever is sent to any route: no text, path, header or key of it; each request has its line."""
    process, client = server
    sent = sweep(client)
    assert sent > 300
    odd_ones(client)
    client.get("/info", headers={"Authorization": f"Bearer {KEY}", "x-request-id": "last"})
    line(process, client, "last")
    lines = [one for one in process.log if one["event"] == "request"]
    assert len(lines) >= sent
    assert len({one["request_id"] for one in lines}) == len(lines)
    assert {route.path for route in routes()} <= {one["route"] for one in lines}
    assert len({one["status"] for one in lines}) > 7
    assert [one for one in process.log if CANARY.lower() in json.dumps(one).lower()] == []
    assert [one for one in process.other if CANARY.lower() in one.lower()] == []
    assert [one for one in process.log if one["level"] == "error"] == []
