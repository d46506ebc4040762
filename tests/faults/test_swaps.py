"""Tasks that change under requests that run: rows R3 and R4."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.process import Process, serving
from tests.server.site import embeddings

CLIENTS = 4
REPLACEMENTS = 8


@pytest.fixture(scope="module")
def server(base_folder: Path) -> Iterator[tuple[Process, httpx.Client]]:
    with serving("--model", str(base_folder), "--store", "memory://") as found:
        yield found


def generate(client: httpx.Client, task: str, **fields: Any) -> httpx.Response:
    body = {"task": task, "inputs": "some jazz", "parameters": {"max_new_tokens": 12, "ignore_eos": True}, **fields}
    return client.post("/generate", json=body)


@contextmanager
def asked(url: str, task: str, answers: list[httpx.Response]) -> Iterator[None]:
    """Clients that ask for the task all the time."""
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as own:
            while not done.is_set():
                answers.append(generate(own, task))

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_r3_a_task_is_replaced_under_load_without_a_wrong_answer(server: tuple[Process, httpx.Client]) -> None:
    """Every answer is whole and of the version it names; nothing fails; later answers are of later versions."""
    process, client = server
    client.put("/tasks/swapped", content=embeddings(None, "play {text}", 4, seed=0).data)
    answers: list[httpx.Response] = []
    with asked(process.url, "swapped", answers):
        for seed in range(1, REPLACEMENTS):
            answer = client.put("/tasks/swapped", content=embeddings(None, "play {text}", 4, seed=seed).data)
            assert answer.status_code == 201
            assert generate(client, "swapped").json()["version"] == answer.json()["version"]
    versions = {number: generate(client, "swapped", version=number).json() for number in range(1, REPLACEMENTS + 1)}
    assert len({found["generated_text"] for found in versions.values()}) == REPLACEMENTS
    assert len(answers) > REPLACEMENTS
    assert len({answer.json()["version"] for answer in answers}) > 2
    for found in (answer.json() for answer in answers):
        assert found["generated_text"] == versions[found["version"]]["generated_text"]
        assert found["digest"] == versions[found["version"]]["digest"]


def test_r4_what_runs_when_its_task_is_deleted_ends_as_it_began(server: tuple[Process, httpx.Client]) -> None:
    """Streams begun before go on to their last token; requests after the answer to the delete are 404."""
    process, client = server
    client.put("/tasks/gone", content=embeddings(None, "play {text}", 4).data)
    long: dict[str, Any] = {
        "task": "gone", "inputs": "some jazz", "parameters": {"max_new_tokens": 200, "ignore_eos": True},
    }  # fmt: skip
    whole = client.post("/generate", json=long).json()["generated_text"]
    answers: list[httpx.Response] = []
    with client.stream("POST", "/generate_stream", json=long) as stream:
        lines = stream.iter_lines()
        next(lines)
        with asked(process.url, "gone", answers), httpx.Client(base_url=process.url, trust_env=False) as other:
            assert other.delete("/tasks/gone").status_code == 204
            assert generate(other, "gone").status_code == 404
        last = [line for line in lines if line.startswith("data:")][-1]
    assert httpx.Response(200, content=last.removeprefix("data:")).json()["generated_text"] == whole
    assert {answer.status_code for answer in answers} <= {200, 404}
