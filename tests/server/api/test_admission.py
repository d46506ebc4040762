"""Who floods is told so at once, by key and by task; everybody else goes on being answered."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.engine.step import Step
from tests.server.site import Site, connect, raw, read_answer, status, until
from tests.server.site import site as running

ONE, TWO, ADMIN = "one" * 8, "two" * 8, "admin" * 8
ASKED = {"inputs": "play", "parameters": {"max_new_tokens": 10, "ignore_eos": True}}
ROOM = 12
TASKS = ("a", "b", "c", "d")


@pytest.fixture
def closed(base_folder: Path) -> Iterator[Site]:
    """Two clients' keys; one request runs, a dozen may wait."""
    keys = {"api_key": f"{ONE},{TWO}", "admin_key": ADMIN}
    with running(base_folder, "memory://", max_batch=1, max_waiting=ROOM, **keys) as found:
        for task in TASKS:
            found.http.put(f"/tasks/{task}", json={"template": "{input}"}, headers=named(ADMIN)).raise_for_status()
        yield found


@pytest.fixture
def narrow(base_folder: Path) -> Iterator[Site]:
    """No keys; one request runs, a dozen may wait."""
    with running(base_folder, "memory://", max_batch=1, max_waiting=ROOM) as found:
        found.publish("quiet")
        yield found


@contextmanager
def held(site: Site) -> Iterator[None]:
    """The engine stands in a forward pass until the end: nothing leaves the queue."""
    runner, go = site.desk.room.running.engine._runner, threading.Event()
    run = runner.run

    def waiting(step: Step) -> Any:
        go.wait()
        return run(step)

    runner.run = waiting  # type: ignore[method-assign]
    try:
        yield
    finally:
        go.set()
        del runner.run


def named(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def ask(site: Site, key: str | None = None, path: str = "/generate", **fields: Any) -> httpx.Response:
    with httpx.Client(base_url=site.url, timeout=60, trust_env=False) as client:
        return client.post(path, json={**ASKED, **fields}, headers=named(key))


def waiting(site: Site) -> int:
    return site.desk.room.running.engine.snapshot().waiting


class Crowd:
    """Questions that are asked one after the other, each when the one before it waits or has been refused."""

    def __init__(self, site: Site, pool: ThreadPoolExecutor) -> None:
        self._site, self._pool = site, pool
        self._asked: list[Future[httpx.Response]] = []

    def until_refused(self, key: str | None = None, **fields: Any) -> httpx.Response:
        """The first refusal; what went in before it waits on."""
        while True:
            before = waiting(self._site)
            asked = self._pool.submit(ask, self._site, key, **fields)
            until(partial(self._settled, asked, before), "it waits or is refused")
            if asked.done():
                return asked.result()
            self._asked.append(asked)

    def _settled(self, asked: Future[httpx.Response], before: int) -> bool:
        return asked.done() or waiting(self._site) > before

    def statuses(self) -> Counter[int]:
        return Counter(asked.result().status_code for asked in self._asked)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_key_that_floods_is_told_so_and_others_are_not(closed: Site) -> None:
    """429 with the seconds to wait; another key finds room, and whoever was let in is answered."""
    with ThreadPoolExecutor(ROOM + 4) as pool:
        crowd = Crowd(closed, pool)
        with held(closed):
            runs = pool.submit(ask, closed, ONE)
            until(lambda: closed.snapshot().running == 1, "one runs")
            refusals = [crowd.until_refused(ONE, task=task) for task in TASKS]
            assert code(refusals[-1]) == (429, "too_many_requests")
            assert refusals[-1].headers["x-should-retry"] == "true"
            assert int(refusals[-1].headers["retry-after"]) >= 1
            before = waiting(closed)
            other = pool.submit(ask, closed, TWO)
            until(lambda: waiting(closed) > before, "the other key's waits")
        assert other.result().status_code == runs.result().status_code == 200
        assert set(crowd.statuses()) == {200}


def test_a_task_that_floods_leaves_room_for_the_others(narrow: Site) -> None:
    """Without keys it is the server that is full, for this task; another one's request is let in."""
    with ThreadPoolExecutor(ROOM + 4) as pool:
        crowd = Crowd(narrow, pool)
        with held(narrow):
            runs = pool.submit(ask, narrow)
            until(lambda: narrow.snapshot().running == 1, "one runs")
            refused = crowd.until_refused()
            assert code(refused) == (503, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
            assert waiting(narrow) <= ROOM // 2
            before = waiting(narrow)
            other = pool.submit(ask, narrow, task="quiet")
            until(lambda: waiting(narrow) > before, "the other task's waits")
        assert other.result().status_code == runs.result().status_code == 200
        assert set(crowd.statuses()) == {200}


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/classify", "/v1/completions"])
def test_who_finds_no_room_is_told_before_the_body_is_read(closed: Site, path: str) -> None:
    """The answer comes while the body is still missing, on every route that asks the engine."""
    with ThreadPoolExecutor(ROOM + 4) as pool:
        crowd = Crowd(closed, pool)
        with held(closed):
            runs = pool.submit(ask, closed, ONE)
            until(lambda: closed.snapshot().running == 1, "one runs")
            for task in TASKS:
                crowd.until_refused(ONE, task=task)
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            head += f"Authorization: Bearer {ONE}\r\nContent-Length: 100\r\n\r\n"
            with connect(closed.url) as connection:
                connection.sendall(head.encode())
                answer = read_answer(connection)
            assert status(answer) == 429
            assert b"too_many_requests" in answer
        assert runs.result().status_code == 200


def test_several_requests_in_one_are_refused_one_by_one(narrow: Site) -> None:
    """What finds no room stands in its place as an error, the rest is answered."""
    with ThreadPoolExecutor(ROOM + 4) as pool:
        crowd = Crowd(narrow, pool)
        with held(narrow):
            runs = pool.submit(ask, narrow)
            until(lambda: narrow.snapshot().running == 1, "one runs")
            crowd.until_refused()
            before = waiting(narrow)
            both = [ASKED, {**ASKED, "task": "quiet"}]
            many = pool.submit(narrow.http.post, "/generate", json={"requests": both})
            until(lambda: waiting(narrow) > before, "one of the two waits")
        full, fine = many.result().json()["responses"]
        assert full["error"]["code"] == "queue_full"
        assert fine["finish_reason"] == "length"
        assert runs.result().status_code == 200


def test_nobody_waits_for_ever(base_folder: Path) -> None:
    """503 `queue_timeout`, streamed or not, when the queue's time is up; who runs goes on."""
    with running(base_folder, "memory://", max_batch=1, queue_seconds=0.02) as site, ThreadPoolExecutor(4) as pool:
        with held(site):
            runs = pool.submit(ask, site, parameters={"max_new_tokens": 200, "ignore_eos": True})
            until(lambda: site.snapshot().running == 1, "one runs")
            late = [pool.submit(ask, site, path=path) for path in ("/generate", "/generate_stream")]
            until(lambda: waiting(site) == 2, "two wait")
        assert {code(one.result()) for one in late} == {(503, "queue_timeout")}
        assert runs.result().status_code == 200


def test_large_bodies_are_held_within_a_budget(base_folder: Path) -> None:
    """The second of two that would go over it together is 503 `bodies_full`; a small one comes through all the same."""
    big = 600_000
    with running(base_folder, "memory://", bodies_budget=800_000) as site:

        def head(size: int) -> bytes:
            return f"PUT /tasks/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()

        with connect(site.url) as first:
            first.sendall(head(big) + b"x" * (big - 1))
            held = site.app._bodies  # type: ignore[attr-defined]
            until(lambda: held.held > big // 2, "it is held")
            refused = raw(site.url, head(big) + b"x" * big)
            assert (status(refused), b"bodies_full" in refused) == (503, True)
            assert site.publish("small")["version"] == 1
            first.sendall(b"x")
            assert status(read_answer(first)) == 422
        until(lambda: held.held == 0, "all is given back")
        assert status(raw(site.url, head(big) + b"x" * big)) == 422


def test_a_body_over_the_budget_is_taken_alone(base_folder: Path) -> None:
    """Otherwise it never would be: the limit on uploads is another setting."""
    body = json.dumps({"template": "{input}", "description": "x" * 200_000}).encode()
    with running(base_folder, "memory://", bodies_budget=1000) as site:
        answer = site.http.put("/tasks/t", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
