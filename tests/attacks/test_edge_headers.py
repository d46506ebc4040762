"""Headers that would change who is asked, what is asked for, or what the log says: H09, H10, H27 to H32."""

import json
import re
import threading
from pathlib import Path

import httpx
import pytest

from tests.attacks.edge import Edge, answered, posted, put, request
from tests.attacks.victim import Victim
from tests.server.jobs.asking import ROWS, method, upload
from tests.server.jobs.conftest import client_of
from tests.server.site import connect, read_answer, site, until


@pytest.mark.parametrize(
    "host",
    [
        b"foo/health?x=", b"foo?", b"foo#", b"[", b"", b"localhost@evil.example", b"evil.example", b"localhost:x",
        b"localhost:99999999", b"localhost\r\nHost: localhost", b"localhost.evil.example",
        b"127.0.0.1.evil.example", b"[::1", None,
    ],
)  # fmt: skip
def test_H09_another_host(edge: Edge, host: bytes | None) -> None:
    """Bound to loopback, loopback's names alone are answered; none and two are refused as well."""
    lines = [b"GET /livez HTTP/1.1", *([] if host is None else [b"Host: " + host]), b"", b""]
    edge.refused(b"\r\n".join(lines), 400, "invalid_request")


FORWARDED = [
    b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Host: evil.example", b"X-Forwarded-Proto: https",
    b"X-Forwarded-Prefix: /tasks", b"Forwarded: for=127.0.0.1;host=evil.example", b"X-Original-URL: /info",
    b"X-Rewrite-URL: /info", b"X-HTTP-Method-Override: DELETE", b"X-Method-Override: DELETE", b"X-Real-IP: 127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("header", FORWARDED)
def test_H10_what_proxies_say(edge: Edge, header: bytes) -> None:
    """Method, path, host and client are those of the request; no proxy is believed."""
    plain, told = edge.taken(request(b"/tasks/known")), edge.taken(request(b"/tasks/known", header))
    assert told.json() == plain.json()
    assert told.headers.keys() == plain.headers.keys()
    assert "strict-transport-security" not in told.headers


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ((b"Expect: 100-continue", b"Content-Length: 5000000"), 413, "body_too_large"),
        ((b"expect: 100-Continue", b"Content-Length: 999999999999999999"), 413, "body_too_large"),
        ((b"Expect: something", b"Content-Length: 15"), 417, "expectation_failed"),
        ((b"Expect: 100-continue, x", b"Content-Length: 15"), 417, "expectation_failed"),
    ],
)
def test_H27_a_word_to_go_on(edge: Edge, headers: tuple[bytes, ...], status: int, code: str) -> None:
    """The only answer is the last one, and the body is not asked for."""
    edge.refused(posted(*headers), status, code, closes=True)


@pytest.mark.parametrize(
    "headers",
    [
        [b"Range: bytes=0-1"],
        [b"Range: bytes=" + b",".join(b"0-%d" % number for number in range(4000))],
        [b"If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT"],
        [b"If-Range: x", b"Range: bytes=0-"],
        [b"Accept: image/*"],
        [b"Accept: " + b",".join(b"a/b;q=0.%03d" % number for number in range(900))],
        [b"Accept-Encoding: gzip, br, zstd;q=0"],
        [b"Accept-Language: " + b"*," * 8000],
        [b"Cookie: " + b"a=b; " * 6000],
    ],
    ids=lambda headers: repr(headers[0][:30]),
)
def test_H28_other_ways_to_have_it(edge: Edge, headers: list[bytes]) -> None:
    """There is one representation, whole and as it is."""
    plain, told = edge.taken(request(b"/tasks/known")), edge.taken(request(b"/tasks/known", *headers))
    assert told.content == plain.content
    assert not {"content-encoding", "content-range", "accept-ranges"} & told.headers.keys()


def test_H30_an_operation_id_again(edge: Edge, base_folder: Path, tmp_path: Path) -> None:
    """For another change, while its own is being made, without measure."""
    key = b"Idempotency-Key: once"
    edge.taken(put(b"operation", b'{"template": "{text}"}', key), 201)
    edge.refused(put(b"operation", b'{"template": "other {text}"}', key), 422, "idempotency_mismatch")
    edge.refused(put(b"operation", b'{"template": "{text}"}', key + b"a" * 10_000), 400, "invalid_request")
    with site(base_folder, "memory://", jobs=str(tmp_path)) as learning, client_of(learning.url) as client:
        body = {"model": "base", "suffix": "t", "training_file": upload(client, ROWS * 400).id, "method": method()}
        statuses: list[int] = []

        def create() -> None:
            answer = httpx.post(f"{learning.url}/v1/fine_tuning/jobs", json=body, headers={"Idempotency-Key": "once"})
            statuses.append(answer.status_code)
            if answer.status_code == 409:
                edge.check(answer, 409, "operation_in_flight")

        first = threading.Thread(target=create)
        first.start()
        while first.is_alive() and 409 not in statuses:
            create()
        first.join()
        assert set(statuses) == {200, 409}
        client.fine_tuning.jobs.cancel(client.fine_tuning.jobs.list().data[0].id)


def test_H31_a_page_of_another_origin(edge: Edge) -> None:
    """Nothing is said to it that would let it read or change anything."""
    for origin in (b"null", b"https://evil.example", b"http://localhost:3000"):
        asked = (b"Origin: " + origin, b"Access-Control-Request-Method: POST")
        answer = edge.refused(request(b"/generate", *asked, method=b"OPTIONS"), 405, "method_not_allowed")
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request(b"/tasks/%1b[31mred%0a%7b%22event%22:1%7d"), 404, "task_not_found"),
        (request(b'/nowhere"}{"event":"x'), 404, "not_found"),
        (request(b"/tasks/known\x1b[31m"), 400, "invalid_request"),
        (request(b"/livez", b"X-Request-ID: \x1b[2J"), 400, "invalid_request"),
        (request(b"/livez", b"X-Request-ID: a\nlevel: error"), 400, "invalid_request"),
        (request(b"/nowhere", b'X-Request-ID: {"event": "x"}', b'User-Agent: "}\\n{'), 404, "not_found"),
        (request(b"/nowhere", b"X-Request-ID: \xe2\x80\xa8"), 404, "not_found"),
    ],
)  # fmt: skip
def test_H32_what_would_write_the_log(edge: Edge, victim: Victim, sent: bytes, status: int, code: str) -> None:
    """To the answer's own id there is one line; what a process writes stays one JSON object a line, and no input."""
    edge.refused(sent, status, code)
    lines, other = len(victim.log), len(victim.other)
    with connect(victim.url) as connection:
        connection.sendall(sent)
        answer = answered(read_answer(connection))
    assert answer.status_code == status
    named = answer.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", named)
    victim.http.get("/livez", headers={"X-Request-ID": f"after-{named}"}).raise_for_status()
    until(lambda: any(line.get("request_id") == f"after-{named}" for line in victim.log), "the next line is written")
    (line,) = [line for line in victim.log[lines:] if line.get("request_id") == named]
    assert line["event"] == "request"
    assert victim.other[other:] == []
    assert "\x1b" not in json.dumps(victim.log[lines:], ensure_ascii=False)
