"""What a server that is leaving still lets in, and what it tells those whom it cuts off."""

import json
from collections.abc import Iterator

import pytest

from tests.server.site import Site, connect, raw, read_answer, status, until

HALF = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"


@pytest.fixture
def leaving(site: Site) -> Iterator[Site]:
    """The site while it drains."""
    site.lifecycle.draining = True
    try:
        yield site
    finally:
        site.lifecycle.draining = site.lifecycle.over = False


def code(answer: bytes) -> str:
    """Of an error."""
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/generate"),
        ("POST", "/generate_stream"),
        ("POST", "/classify"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/chat/completions"),
        ("PUT", "/tasks/t"),
        ("PATCH", "/tasks/t"),
        ("DELETE", "/tasks/t"),
        ("POST", "/tasks/t/rollback"),
        ("POST", "/v1/files"),
        ("POST", "/v1/fine_tuning/jobs"),
    ],
)
def test_nothing_new_begins(leaving: Site, method: str, path: str) -> None:
    """503 `draining`, when to ask again, and the connection is closed, whatever the body is."""
    answer = leaving.http.request(method, path, content=b"x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-should-retry"] == "true"
    assert answer.headers.get_list("connection") == ["close"]


def test_what_reads_is_answered_and_the_connection_is_closed(leaving: Site) -> None:
    """As it is, on a connection that is not kept."""
    for path in ("/livez", "/tasks", "/info", "/metrics", "/openapi.json"):
        answer = leaving.http.get(path)
        assert (answer.status_code, answer.headers.get_list("connection")) == (200, ["close"]), path
    assert "connection" not in {name.lower() for name in _after(leaving)}


def _after(site: Site) -> list[str]:
    """An answer's headers once it no longer drains."""
    site.lifecycle.draining = False
    return list(site.http.get("/livez").headers)


def test_a_stranger_is_told_no_more_than_before(leaving: Site) -> None:
    """Without a route there is nothing to refuse: 404 and 405 stay what they are."""
    assert leaving.http.post("/nowhere").status_code == 404
    assert leaving.http.post("/livez").status_code == 405


def test_who_is_cut_off_is_told_so(leaving: Site) -> None:
    """A request whose body never comes: 503 `draining`, with an id and in the log's words, not a broken connection."""
    leaving.lifecycle.draining = False
    with connect(leaving.url) as connection:
        connection.sendall(HALF)
        until(lambda: len(leaving.lifecycle.running) == 1, "it runs")
        leaving.lifecycle.draining = True
        leaving.desk.room.tasks.reach.left.get_loop().call_soon_threadsafe(leaving.lifecycle.cut)
        answer = read_answer(connection)
    assert (status(answer), code(answer)) == (503, "draining")
    assert b"x-request-id: " in answer.lower()
    assert b"connection: close" in answer.lower()
    until(lambda: not leaving.lifecycle.running, "nothing runs")


def test_who_is_answered_is_known_until_then(site: Site) -> None:
    """Nobody is left behind by answers, refusals and clients that go."""
    assert site.http.get("/livez").status_code == 200
    assert site.http.post("/generate", json={"inputs": 3}).status_code == 400
    with connect(site.url) as connection:
        connection.sendall(HALF)
        until(lambda: len(site.lifecycle.running) == 1, "it runs")
    until(lambda: not site.lifecycle.running, "nothing runs")
    assert status(raw(site.url, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 200
