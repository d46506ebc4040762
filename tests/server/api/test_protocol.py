"""One connection over each parser: answers in order, deadlines both ways, and a last word that arrives."""

import contextlib
import json
import re
import select
import socket
import time
from pathlib import Path

import pytest

from server import serve
from server.api.outgoing import LINGER_SECONDS
from tests.server.api.connections import LATEST, SECONDS, post
from tests.server.site import Site, connect, raw, read_answer, status, until
from tests.server.site import site as running

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_old_clients_are_not_asked_for_their_bodies(hasty: Site) -> None:
    """HTTP/1.0 has no interim answers: `Expect` means nothing there (RFC 9110, 10.1.1)."""
    asked = post("/render", b'{"inputs": "a"}', "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    head, _, body = asked.partition(b"\r\n\r\n")
    with connect(hasty.url) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert select.select([connection], [], [], 0.2)[0] == []
        connection.sendall(body)
        assert status(read_answer(connection)) == 200


def answers(connection: socket.socket, count: int) -> bytes:
    received = b""
    while received.count(b"HTTP/1.1 ") < count or not received.endswith(b"}"):
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received


def test_what_is_no_http_is_counted_too(hasty: Site) -> None:
    """Under no method and no route: neither was read."""
    counted = 'softprompt_http_requests_total{method="other",route="none",status="400"} '
    before = hasty.http.get("/metrics").text.partition(counted)[2].partition("\n")[0] or "0"
    assert status(raw(hasty.url, b"HELLO\r\n\r\n")) == 400
    assert f"{counted}{float(before) + 1}\n" in hasty.http.get("/metrics").text


def test_requests_sent_at_once_are_answered_in_order(hasty: Site) -> None:
    """However many, and with bodies: the second parser sees none before the one before it is answered."""
    bodies = [json.dumps({"inputs": f"text {number}"}).encode() for number in range(20)]
    with connect(hasty.url) as connection:
        connection.sendall(b"".join(post("/render", body) for body in bodies) + GET)
        received = answers(connection, 21)
    places = [received.find(f'"text":"text {number}"'.encode()) for number in range(20)]
    assert places == sorted(places)
    assert places[0] > 0
    assert received.endswith(b'{"status":"ok"}')


def test_what_follows_a_good_request_is_judged_after_its_answer(hasty: Site) -> None:
    """The good one has its answer, the bad one its own, and then it is over."""
    with connect(hasty.url) as connection:
        connection.sendall(GET + b"nonsense\r\n\r\n" + GET)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"400"]


def test_a_body_that_comes_after_its_answer_is_passed_over(hasty: Site) -> None:
    """Within a moment; the connection is good for another request."""
    body = b"x" * 1000
    with connect(hasty.url) as connection:
        head, _, rest = post("/nowhere", body).partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n" + rest[:10])
        assert status(read_answer(connection)) == 404
        connection.sendall(rest[10:] + GET)
        assert status(read_answer(connection)) == 200


def test_a_body_that_never_comes_after_its_answer_ends_the_connection(hasty: Site) -> None:
    """Soon, and at once where the client waited to be asked for it."""
    for headers in ((), ("Expect: 100-continue",)):
        with connect(hasty.url) as connection:
            connection.sendall(post("/nowhere", b"xx", *headers)[:-1])
            assert status(read_answer(connection)) == 404
            began = time.monotonic()
            assert connection.recv(1) == b""
            assert time.monotonic() - began < LINGER_SECONDS + LATEST


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_who_is_not_asked_for_a_body_is_told_that_the_connection_ends(hasty: Site) -> None:
    """Before or after the body has come; what follows it is not answered. One who is asked goes on as usual."""
    for path, closes in (("/nowhere", True), ("/generate", False)):
        head, _, body = post(path, b"xx", "Expect: 100-continue").partition(b"\r\n\r\n")
        for first, then in ((head + b"\r\n\r\n", body), (head + b"\r\n\r\n" + body, b"")):
            with connect(hasty.url) as connection:
                connection.sendall(first)
                if not closes:
                    assert connection.recv(len(CONTINUE), socket.MSG_WAITALL) == CONTINUE
                    connection.sendall(then)
                answer = read_answer(connection)
                assert (status(answer), b"connection: close" in answer) == ((404 if closes else 400), closes)
                connection.sendall(GET)
                assert status(read_answer(connection)) == (0 if closes else 200)
                assert not resets(connection)


def resets(connection: socket.socket) -> bool:
    """Within a moment."""
    errors = select.poll()
    errors.register(connection, 0)
    return bool(errors.poll(300))


def test_a_refusal_reaches_who_is_still_sending(hasty: Site) -> None:
    """Fifty megabytes behind a bad head: they are thrown away, and the error is read whole."""
    with connect(hasty.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA b\r\n\r\n")
        for _ in range(50):
            connection.sendall(bytes(2**20))
        answer = read_answer(connection)
    assert status(answer) == 400
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_request"


def test_what_is_sent_ahead_is_left_with_the_kernel(hasty: Site) -> None:
    """A client that sends on and on behind a request that runs has no more of our memory."""
    ask = {"inputs": "play", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}
    with connect(hasty.url) as connection:
        connection.sendall(post("/generate", json.dumps(ask).encode()))
        until(hasty.busy, "it runs")
        connection.setblocking(False)
        ahead, sent = memoryview(GET * 2**20), 0
        while hasty.busy():
            with contextlib.suppress(BlockingIOError):
                sent += connection.send(ahead[sent:])
        assert sent < len(ahead)


@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_a_head_that_has_begun_has_its_own_deadline(
    base_folder: Path, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a kept connection, which is otherwise waited for less long."""
    monkeypatch.setattr(serve, "KEPT_SECONDS", 1)
    with running(base_folder, "memory://", http_parser=parser) as site, connect(site.url) as connection:
        connection.sendall(GET)
        assert status(read_answer(connection)) == 200
        connection.sendall(GET[:20])
        connection.settimeout(2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.sendall(GET[20:])
        assert status(read_answer(connection)) == 200
        assert connection.recv(1) == b"", "and then it is over after a second"


def test_a_kept_connection_is_kept(hasty: Site) -> None:
    """Longer than the deadline for a head: it has not begun."""
    with connect(hasty.url) as connection:
        connection.sendall(GET)
        assert status(read_answer(connection)) == 200
        connection.settimeout(2 * SECONDS)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.sendall(GET)
        assert status(read_answer(connection)) == 200


def test_an_empty_line_before_a_request_is_forgiven(hasty: Site) -> None:
    """One, as some clients send behind a body; not two."""
    assert status(raw(hasty.url, b"\r\n" + GET)) == 200
    assert status(raw(hasty.url, b"\r\n\r\n" + GET)) == 400
