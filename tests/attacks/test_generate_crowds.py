"""What a crowd does to others, and what a version that gives no numbers does: G35 and G43."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.crowd import Connection, Question
from tests.attacks.asking import GENERATE, question
from tests.attacks.attack import JSON, Attack
from tests.e2e.process import Process, serving
from tests.server.poison import bad_file
from tests.server.site import embeddings, until
from tests.server.site import site as running

FAILURES = 3
CROWD, TOGETHER = 1000, 500
LOUD, QUIET, ADMIN = "loud" * 8, "quiet" * 8, "admin" * 8
TOKENS = 20


def test_G35_a_version_that_gives_no_numbers(attack: Attack, base_folder: Path, tmp_path: Path) -> None:
    """Refused on every route once it has failed three times; looked at all the same; the next version is free."""
    with running(base_folder, tmp_path, max_norm=1e300, quarantine_seconds=3600) as site:
        bad_file(site, "prefix", "sick")
        asked = {**question("/generate", task="sick"), "parameters": {"max_new_tokens": 3}}
        for _ in range(FAILURES):
            answer = site.http.post("/generate", json=asked)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "non_finite_output")
        for route in (*GENERATE, "/classify", "/v1/completions"):
            answer = site.http.post(route, json=question(route, task="sick"))
            attack.check(answer, 503, "quarantined", b"")
            assert int(answer.headers["Retry-After"]) > 3000
        attack.right(site.http.get("/tasks/sick"))
        site.http.put("/tasks/sick", content=embeddings(site.base, "{text}", 4).data).raise_for_status()
        attack.right(site.http.post("/generate", json=asked))


@pytest.fixture
def keyed(base_folder: Path, tmp_path: Path) -> Iterator[tuple[Process, httpx.Client]]:
    """A process with a key for each of two clients; four requests run, ninety may wait."""
    keys = {"SOFTPROMPT_API_KEY": f"{LOUD},{QUIET}", "SOFTPROMPT_ADMIN_KEY": ADMIN}
    room = {"SOFTPROMPT_MAX_BATCH": "4", "SOFTPROMPT_MAX_WAITING": "90"}
    with serving("--model", str(base_folder), "--store", str(tmp_path), **keys, **room) as found:
        yield found


def test_G43_a_thousand_of_one_key_at_once(attack: Attack, keyed: tuple[Process, httpx.Client]) -> None:
    """As many as are its part wait and are answered, the rest is told when to come; another key goes on as ever."""
    server, client = keyed
    client.headers["Authorization"] = f"Bearer {QUIET}"
    body = {"inputs": "play", "parameters": {"max_new_tokens": TOKENS, "ignore_eos": True}}
    alone = client.post("/generate", json=body).json()["generated_text"]
    sent = Question.of(server.url, json.dumps(body).encode(), TOKENS, LOUD)
    found, quiet = asyncio.run(_crowded(server.url, sent, body))
    statuses = Counter(status for status, _ in found)
    assert sum(statuses.values()) == CROWD
    assert {(status, "") for status in statuses if status == 200} <= attack.row.answers
    assert statuses.keys() == {200, 429}
    assert (429, "too_many_requests") in attack.row.answers
    assert all(b"\r\nretry-after: " in head.lower() for status, head in found if status == 429)
    assert [answer.status_code for answer in quiet] == [200] * len(quiet)
    assert {answer.json()["generated_text"] for answer in quiet} == {alone}
    until(lambda: _open(client) == 0, "nothing is left of it")


async def _crowded(
    url: str, sent: Question, body: dict[str, Any]
) -> tuple[list[tuple[int, bytes]], list[httpx.Response]]:
    """What the crowd is answered, all of whom ask at once, and what the other key is meanwhile, one after the other."""
    address = httpx.URL(url)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, address.host, address.port or 80))[1] for _ in range(TOGETHER)
    ]
    quiet: list[httpx.Response] = []
    over = asyncio.Event()

    async def other() -> None:
        headers = {**JSON, "Authorization": f"Bearer {QUIET}"}
        async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
            while not over.is_set() or len(quiet) < 3:
                quiet.append(await client.post("/generate", json=body, headers=headers))

    async def twice(connection: Connection) -> list[tuple[int, bytes]]:
        return [await connection.ask(sent) for _ in range(CROWD // TOGETHER)]

    beside = asyncio.create_task(other())
    found = await asyncio.gather(*(twice(connection) for connection in connections))
    over.set()
    await beside
    for connection in connections:
        if connection.transport is not None:
            connection.transport.close()
    return [answer for two in found for answer in two], quiet


def _open(client: httpx.Client) -> int:
    engine = client.get("/info").json()["engine"]
    return int(engine["running"] + engine["waiting"])
