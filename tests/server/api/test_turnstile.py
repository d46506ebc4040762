"""Whoever is turned away by the bytes of a request is told what the routes would have said."""

import asyncio
import json
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.server.api.connections import not_reading
from tests.server.api.test_admission import ADMIN, ASKED, ONE, ROOM, Crowd, ask, held, named, waiting
from tests.server.site import Site, asking, connect, read_answer, status, until
from tests.server.site import site as running

LONG_WAY = "Connection: TE"
"""Changes nothing, and is more than a program sends."""
KEPT = "Connection: keep-alive"
"""As httpx, requests and browsers send it."""
KEY = f"Authorization: Bearer {ONE}"
PAGE = "https://page.example"
MANY = 3_000
"""More answers than are written for a client that reads none."""
BODIES: dict[str, dict[str, Any]] = {
    "/generate": {"inputs": "x", "task": "a"},
    "/generate_stream": {"inputs": "x", "task": "a"},
    "/classify": {"inputs": "x", "labels": ["a", "b"], "task": "a"},
    "/v1/completions": {"prompt": "x", "model": "base:a"},
}


def headers_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def given(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


@pytest.mark.parametrize("path", BODIES)
def test_both_ways_say_the_same(full: tuple[Site, ThreadPoolExecutor], path: str) -> None:
    """Status, headers and body, the client's request id among them; and the connection is kept for the next request."""
    answers = []
    with connect(full[0].url) as connection:
        for way in ((), (LONG_WAY,), (KEPT,)):
            connection.sendall(asking(path, BODIES[path], "X-Request-Id: my-own.1", KEY, *way))
            answers.append(read_answer(connection))
    assert [status(answer) for answer in answers] == [429] * 3
    short, long, again = map(headers_of, answers)
    long.pop("date", None)
    assert short == again == long
    assert len({answer.partition(b"\r\n\r\n")[2] for answer in answers}) == 1
    assert short["x-request-id"] == "my-own.1"
    assert int(short["retry-after"]) >= 1


def test_a_task_that_is_not_full_gets_through(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """And so does a body that the routes have to judge: what names no task, what is no JSON, what asks for several."""
    site, pool = full
    before = waiting(site)
    pool.submit(ask, site, ONE, task="b")
    until(lambda: waiting(site) > before, "the other task's waits")
    bodies = (b"[]", b"no json", b'{"task": 5, "inputs": "x"}', json.dumps({**ASKED, "task": "nobody"}).encode())
    found = [site.http.post("/generate", content=body, headers=given(ONE)).status_code for body in bodies]
    assert found == [400, 400, 400, 404]
    several = site.http.post("/generate", json={"requests": [{**ASKED, "task": "a"}]}, headers=given(ONE))
    assert several.status_code == 200
    assert several.json()["responses"][0]["error"]["code"] == "too_many_requests"


def test_a_batch_of_who_has_no_room_for_any_is_refused_whole(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """By both ways; where there is room for some, each item has its own answer."""
    site, pool = full
    Crowd(site, pool).until_refused(ONE, task="b")
    batches = {
        "/generate": [{**ASKED, "task": "a"}, {**ASKED, "task": "new"}],
        "/classify": [{**BODIES["/classify"], "task": "new"}],
    }
    for path, items in batches.items():
        with connect(site.url) as connection:
            for way in ((), (LONG_WAY,)):
                connection.sendall(asking(path, {"requests": items}, KEY, *way))
                answer = read_answer(connection)
                assert status(answer) == 429
                assert b'"code":"too_many_requests"' in answer


def test_of_many_who_come_at_once_no_more_pass_than_find_a_place(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """The others are turned away here: no route sees them, whose answers have a date."""
    site, _ = full
    room, crowd = ROOM - 2 * waiting(site), 20
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(site.url)) for _ in range(crowd)]
        for connection in connections:
            connection.sendall(asking("/generate", {**BODIES["/generate"], "task": "b"}, KEY))
        until(lambda: len(readable(connections)) >= crowd - room // 2, "all but those who wait are answered")
        answers = [read_answer(connection) for connection in readable(connections)]
    assert [status(answer) for answer in answers] == [429] * (crowd - room // 2)
    assert not any("date" in headers_of(answer) for answer in answers)


def test_of_many_who_come_at_once_to_an_idle_server_no_more_pass_than_find_room(base_folder: Path) -> None:
    """A slot or a place: the others are turned away here although nobody waits yet."""
    crowd, room = 20, ROOM // 3 + 1
    with running(base_folder, "memory://", max_batch=1, max_waiting=ROOM) as site, held(site), ExitStack() as stack:
        connections = [stack.enter_context(connect(site.url)) for _ in range(crowd)]
        for connection in connections:
            connection.sendall(asking("/generate", {"inputs": "x", "task": "base"}))
        until(lambda: len(readable(connections)) >= crowd - room, "all but those who wait are answered")
        answers = [read_answer(connection) for connection in readable(connections)]
    assert {status(answer) for answer in answers} == {503}
    assert not any("date" in headers_of(answer) for answer in answers)


def test_an_idle_server_has_at_once_what_it_has_slots(base_folder: Path) -> None:
    """And as many fewer as it runs."""
    with running(base_folder, "memory://", max_batch=3) as site, ThreadPoolExecutor(1) as pool:
        at_once = site.desk.room.running.at_once
        places = [place for place in (at_once() for _ in range(5)) if place is not None]
        for place in places:
            place.leave()
        with held(site):
            pool.submit(ask, site)
            until(lambda: site.snapshot().running == 1, "one runs")
            assert len(places) == sum(at_once() is not None for _ in range(5)) + 1 == 3


def test_what_the_routes_refuse_holds_no_place(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """However many ask for what is not there, or ask wrongly, each of another task: its key finds room for what is."""
    site, pool = full
    with connect(site.url) as connection:
        for number in range(3 * ROOM):
            inputs = "x" if number % 2 else 5
            connection.sendall(asking("/generate", {"inputs": inputs, "task": f"nobody-{number}"}, KEY))
            assert status(read_answer(connection)) == (404 if number % 2 else 400)
    before = waiting(site)
    pool.submit(ask, site, ONE, task="b")
    until(lambda: waiting(site) > before, "a request that is right waits")
    until(lambda: coming(site) == 0, "nobody is on the way")


def test_who_waits_for_a_store_keeps_its_place_for_a_second(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """It would keep others out who need nothing of the store."""
    site, _ = full
    tasks, answered = site.desk.room.tasks, threading.Event()
    served = tasks.served

    async def stuck(*asked: Any) -> Any:
        await asyncio.to_thread(answered.wait)
        return await served(*asked)

    tasks.served = stuck  # type: ignore[method-assign, assignment]
    try:
        with connect(site.url) as connection:
            connection.sendall(asking("/generate", {**BODIES["/generate"], "task": "b"}, KEY))
            until(lambda: coming(site) == 1, "it has a place")
            until(lambda: coming(site) == 0, "it has none any more")
            assert not readable([connection])
    finally:
        answered.set()
        del tasks.served


def coming(site: Site) -> int:
    return site.desk.room.running.engine.admission._coming.all.requests


def readable(connections: list[socket.socket]) -> list[socket.socket]:
    return select.select(connections, [], [], 0)[0]


def test_thousands_that_come_at_once_stop_nobody_else(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """Each is turned away in a turn of its own: others are answered between two of them, and what is not read waits."""
    site, _ = full
    counted = 'softprompt_http_requests_total{method="POST",route="/generate",status="429"} '
    burst = asking("/generate", BODIES["/generate"], KEY) * MANY

    def told() -> float:
        answer = site.http.get("/metrics", headers=named(ADMIN))
        return float(answer.text.partition(counted)[2].partition("\n")[0])

    def rests() -> bool:
        seen.append(told())
        return seen[-1] == seen[-2]

    with not_reading(site, b"") as connection, ThreadPoolExecutor(1) as sender:
        seen = [told()]
        sending = sender.submit(connection.sendall, burst)
        until(lambda: told() > seen[0], "some are told")
        until(rests, "nobody reads, so nothing more is written")
        assert seen[-1] - seen[0] < MANY
        answers = b""
        while answers.count(b"HTTP/1.1 429") < MANY:
            answers += connection.recv(2**20)
        sending.result()
    assert told() - seen[0] == MANY


def test_the_short_way_is_short(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """A refusal takes at most two thirds of what it takes by the routes, in the best of some rounds of each."""
    with connect(full[0].url) as connection:

        def seconds(*way: str) -> float:
            sent, began = asking("/generate", BODIES["/generate"], KEY, *way), time.perf_counter()
            for _ in range(50):
                connection.sendall(sent)
                assert status(read_answer(connection)) == 429
            return time.perf_counter() - began

        rounds = [(seconds(KEPT), seconds(LONG_WAY)) for _ in range(6)]
    assert min(short for short, _ in rounds) < 2 / 3 * min(long for _, long in rounds)


def test_the_long_way_asks_for_room_before_anything_is_made_of_a_request(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """Inputs that no prompt has room for are not looked at."""
    body = {**BODIES["/generate"], "inputs": "x " * 5000}
    with connect(full[0].url) as connection:
        connection.sendall(asking("/generate", body, KEY, LONG_WAY))
        assert status(read_answer(connection)) == 429


def test_a_page_may_read_that_there_is_no_room(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """What comes from a listed origin is answered with the headers that its browser wants."""
    with connect(full[0].url) as connection:
        connection.sendall(asking("/generate", BODIES["/generate"], KEY, f"Origin: {PAGE}"))
        answer = read_answer(connection)
    assert status(answer) == 429
    assert headers_of(answer)["access-control-allow-origin"] == PAGE


def test_a_server_that_leaves_says_so_and_not_that_it_is_full(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """503 `draining`: who comes again in a while would find nobody."""
    site, _ = full
    site.lifecycle.draining = True
    try:
        with connect(site.url) as connection:
            connection.sendall(asking("/generate", BODIES["/generate"], KEY))
            answer = read_answer(connection)
    finally:
        site.lifecycle.draining = False
    assert status(answer) == 503
    assert b"draining" in answer


def test_who_has_no_key_is_told_that(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """However full the queue is."""
    stranger = full[0].http.post("/generate", json={**ASKED, "task": "a"}, headers=given("stranger" * 4))
    assert stranger.status_code == 401
