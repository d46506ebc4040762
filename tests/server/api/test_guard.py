"""Headers, hosts, URLs and task ids from strangers (the H rows of the catalogue that a request alone can show)."""

import contextlib
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.server.site import Site, connect, raw, read_answer, status
from tests.server.site import site as running


def get(target: bytes | str, *headers: bytes, host: bytes = b"Host: localhost") -> bytes:
    line = target.encode() if isinstance(target, str) else target
    return b"\r\n".join([b"GET " + line + b" HTTP/1.1", host, *headers, b"", b""])


@pytest.mark.parametrize(
    "host",
    [
        b"Host: foo/health?x=",
        b"Host: foo?",
        b"Host: foo#",
        b"Host: [",
        b"Host:",
        b"Host: a\r\nHost: localhost",
        b"X: no host",
        b"Host: evil.example",
        b"Host: localhost.evil.example",
        b"Host: localhost:99999999",
        b"Host: user@localhost",
    ],
)
def test_hosts_that_are_not_this_one_are_refused(site: Site, host: bytes) -> None:
    """Bound to loopback, only its names are answered: a page elsewhere cannot reach in by name."""
    assert status(raw(site.url, get("/livez", host=host))) == 400


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:8000", b"127.0.0.1", b"127.0.0.1:1", b"[::1]:80"])
def test_names_of_this_machine_are_answered(site: Site, host: bytes) -> None:
    """Any port, any case."""
    assert status(raw(site.url, get("/livez", host=b"Host: " + host))) == 200


def test_allowed_hosts_narrow(base_folder: Path) -> None:
    """What the operator names, and nothing else."""
    with running(base_folder, "memory://", allowed_hosts="models.example") as site:
        assert status(raw(site.url, get("/livez", host=b"Host: models.example:8000"))) == 200
        assert status(raw(site.url, get("/livez"))) == 400


@pytest.mark.parametrize(
    ("request_bytes", "wanted"),
    [
        (get("/livez", b"X-Big: " + b"a" * 40_000), {431, 400}),
        (get("/livez", *(b"X-%d: a" % number for number in range(200))), {431}),
        (get("/livez?" + "a" * 9_000), {414}),
        (get("/livez", b"Authorization: Bearer " + b"a" * 50_000), {431, 400}),
        (get("/livez", b"Content-Encoding: gzip"), {415}),
        (get("/livez", b"Expect: the-unexpected"), {417}),
    ],
    ids=["header", "headers", "URL", "key", "encoding", "expect"],
)
def test_what_is_too_much_is_refused(site: Site, request_bytes: bytes, wanted: set[int]) -> None:
    """Sizes are bounded before anything is routed."""
    assert status(raw(site.url, request_bytes)) in wanted


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello",
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000000000000\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: local\0host\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
    ],
    ids=lambda value: repr(value[:60]),
)
def test_what_is_no_http_is_closed(site: Site, request_bytes: bytes) -> None:
    """A 4xx or nothing, then the end of the connection; the server goes on."""
    answer = raw(site.url, request_bytes, half_close=True)
    assert status(answer) in {0, 400, 404, 405, 411, 413, 415}
    if answer:
        assert b"x-request-id: " in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]
    assert site.http.get("/livez").status_code == 200


IDS = [
    "..",
    "%2e%2e",
    ".",
    "a/../b",
    "a%2fb",
    "a%5cb",
    "a\\b",
    "%00",
    "a%00",
    "%0a",
    "a%20b",
    "%7f",
    quote("café"),
    quote("．．／"),
    quote("a\u200bb"),
    quote("\u202eabc"),
    "-a",
    "_a",
    ".a",
    "a" * 129,
    "a;jsessionid=1",
    "base",
    "%69ntent",
    "*",
    "%",
    "%zz",
]


@pytest.mark.parametrize("name", IDS)
def test_names_that_no_task_can_have(site: Site, name: str) -> None:
    """PUT says so with 400 `invalid_task_id`, GET and POST with 404; nothing is decoded, folded or redirected."""
    body = b'{"template": "{text}"}'
    headers = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: %d" % len(body)
    put = raw(site.url, b"PUT /tasks/" + name.encode() + b" HTTP/1.1\r\n" + headers + b"\r\n\r\n" + body)
    assert status(put) == 400
    assert b"invalid_task_id" in put
    assert status(raw(site.url, get("/tasks/" + name))) == 404
    rollback = raw(
        site.url,
        b"POST /tasks/" + name.encode() + b"/rollback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 14\r\n\r\n{"version": 1}',
    )
    assert status(rollback) == 404


def test_ids_at_their_bounds_are_taken_as_they_are(site: Site) -> None:
    """Case matters, 128 characters are allowed."""
    for name in ("Upper", "upper", "0", "a" * 128, "a.b_c-d"):
        assert site.publish(name, "{text}")["id"] == name
    assert site.http.get("/tasks/UPPER").status_code == 404


def test_forwarding_headers_change_nothing(site: Site) -> None:
    """No proxy is trusted: method, path and host are what they are."""
    headers = {
        "X-HTTP-Method-Override": "DELETE",
        "X-Original-URL": "/info",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/tasks",
    }
    answer = site.http.get("/version", headers=headers)
    assert (answer.status_code, list(answer.json())) == (200, ["version"])


def test_nothing_is_said_to_other_origins(site: Site) -> None:
    """CORS is off: a page elsewhere gets no header that lets it read."""
    for origin in ("null", "https://evil.example"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for method in ("OPTIONS", "GET"):
            answer = site.http.request(method, "/tasks", headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/json; charset=utf-16", "multipart/form-data", "a"])
def test_other_media_types_are_415(site: Site, kind: str | None) -> None:
    """JSON is said to be JSON, in UTF-8."""
    headers = {"Content-Type": kind} if kind else {}
    answer = site.http.post("/generate", content=b'{"inputs": "x"}', headers=headers)
    assert answer.status_code == 415
    if kind is not None:
        assert site.http.put("/tasks/kinds", content=b"{}", headers=headers).status_code == 415
    good = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert site.http.post("/render", content=b'{"inputs": "x"}', headers=good).status_code == 200


@pytest.mark.parametrize("begun", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-More: "])
def test_headers_that_never_end_are_not_waited_for(base_folder: Path, begun: bytes) -> None:
    """408 at the deadline; a connection on which nothing came is closed. On a kept connection too."""
    whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running(base_folder, "memory://", receive_seconds=0.3) as site:
        with connect(site.url) as fresh:
            fresh.sendall(begun)
            assert status(read_answer(fresh)) == (408 if begun else 0)
        with connect(site.url) as kept:
            kept.sendall(whole)
            assert status(read_answer(kept)) == 200
            if begun:
                kept.sendall(begun)
                assert status(read_answer(kept)) == 408


def test_headers_without_an_end_are_not_kept(base_folder: Path) -> None:
    """Whatever their number, a bounded part of them is ever held."""
    with running(base_folder, "memory://") as site, connect(site.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        with contextlib.suppress(OSError):  # the server closes while we still write
            for _ in range(100):
                connection.sendall(b"x" * 65536)
        assert status(read_answer(connection)) in {0, 431}
        assert site.http.get("/livez").status_code == 200
