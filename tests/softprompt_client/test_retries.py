"""When a request is sent again, and when never: scripts played on a real socket."""

import socket
import threading
import time

import pytest

from softprompt_client import SoftpromptError
from tests.softprompt_client.conftest import Asking, Scripted, response, scripted

GOOD = response(200, b'{"status": "ok"}')
TASK = response(200, b'{"id": "t", "version": 1, "digest": "00"}', x_operation_id="op")
GENERATED = response(200, b'{"generated_text": "y"}')
GONE = response(204, b"")
LOST = b""


def busy(status: int = 503, **headers: str) -> bytes:
    return response(status, b'{"error": {"message": "full", "code": "queue_full", "param": null}}', **headers)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(client_of: Asking, status: int) -> None:
    """Until it answers."""
    with scripted(busy(status, Retry_After="0"), busy(status), GOOD) as server:
        assert client_of(server.url).ready() == {"status": "ok"}


def test_the_server_says_how_long_to_wait(client_of: Asking) -> None:
    """In seconds, of a stream too; longer than half a minute is not waited for."""
    stream = b'data: {"index": 0, "token": {}, "generated_text": "", "details": {}}\n\n'
    with scripted(busy(Retry_After="1"), response(200, stream)) as server:
        began = time.monotonic()
        assert len(client_of(server.url).generate_stream("base", "x")) == 1
        assert time.monotonic() - began >= 1
    for much in ("3600", "Fri, 31 Dec 2100 23:59:59 GMT"):
        with scripted(busy(Retry_After=much)) as server, pytest.raises(SoftpromptError, match="queue_full"):
            client_of(server.url).ready()


def test_it_gives_up(client_of: Asking) -> None:
    """With what the server said last."""
    with scripted(*[busy(Retry_After="0")] * 3) as server, pytest.raises(SoftpromptError) as caught:
        client_of(server.url, retries=2).ready()
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (503, "queue_full", True)


def test_nobody_listens_yet(client_of: Asking) -> None:
    """No byte was sent, so a generation is tried again too."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = Scripted([GENERATED], listener)
        answering = threading.Thread(target=server.run)

        def listen() -> None:
            listener.listen()
            answering.start()

        timer = threading.Timer(0.1, listen)
        timer.start()
        assert client_of(server.url).generate("base", "x") == {"generated_text": "y"}
        timer.join()
        answering.join()


def test_a_request_that_may_have_run_is_not_sent_again(client_of: Asking) -> None:
    """The connection broke behind it: whether it ran nobody knows. One of the script, and no second."""
    with scripted(LOST) as server, pytest.raises(SoftpromptError) as caught:
        client_of(server.url).generate("base", "x")
    assert len(server.heard) == 1
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (None, "no_answer", False)


def test_a_change_is_sent_again_under_its_own_name(client_of: Asking) -> None:
    """Its Idempotency-Key is drawn by the client, and the same each time."""
    changes: dict[str, tuple[object, ...]] = {
        "publish": ("t", b"file"),
        "patch": ("t", {}),
        "rollback": ("t", 1),
        "delete": ("t",),
    }
    for change, arguments in changes.items():
        with scripted(LOST, GONE if change == "delete" else TASK) as server:
            getattr(client_of(server.url).tasks, change)(*arguments)
        (first, second) = ([line for line in heard.split(b"\r\n") if b"dempotency" in line] for heard in server.heard)
        assert len(first) == 1
        assert first == second


def test_what_is_refused_is_not_sent_again(client_of: Asking) -> None:
    """The same gets the same answer."""
    with scripted(busy(400)) as server, pytest.raises(SoftpromptError):
        client_of(server.url).tasks.delete("t")
    assert len(server.heard) == 1


def test_an_answer_of_somebody_else_is_told(client_of: Asking) -> None:
    """A proxy's page, a redirect, a page instead of JSON, a file that was damaged on the way."""
    for said, code in (
        (response(502, b"<html>"), "http_502"),
        (response(302, b"", Location="/elsewhere"), "http_302"),
        (response(200, b"<html>"), "bad_answer"),
    ):
        with scripted(said) as server, pytest.raises(SoftpromptError) as caught:
            client_of(server.url).info()
        assert caught.value.code == code
    with scripted(response(200, b"file", ETag='"0000"')) as server, pytest.raises(SoftpromptError, match="damaged"):
        client_of(server.url).tasks.prompt("t", 1)


def test_a_stream_that_breaks_is_no_answer(client_of: Asking) -> None:
    """Cut off, ended too early, or ended by an error of the server."""
    head = b"HTTP/1.1 200 OK\r\nx-request-id: here\r\nContent-Length: 1000\r\n\r\n"
    event = b'data: {"index": 0, "token": {}, "generated_text": null, "details": null}\n\n'
    failed = b'data: {"error": {"message": "over", "code": "timeout", "param": null}}\n\n'
    for said, code in (
        (head + event, "no_answer"),
        (response(200, event), "bad_answer"),
        (response(200, event + failed, x_request_id="here"), "timeout"),
    ):
        with scripted(said) as server, pytest.raises(SoftpromptError) as caught:
            client_of(server.url).generate_stream("base", "x")
        assert (caught.value.code, caught.value.status) == (code, None)


def test_a_text_may_hold_what_ends_lines_elsewhere(client_of: Asking) -> None:
    """U+2028, U+0085 and a bare CR within JSON are parts of an event, wherever the pieces are cut."""
    text = "a\u2028b\u0085c"
    event = f'data: {{"index": 0, "token": {{"text": "{text}"}}, "generated_text": "{text}", "details": {{}}}}\n\n'
    with scripted(response(200, event.encode())) as server:
        (found,) = client_of(server.url).generate_stream("base", "x")
    assert found["generated_text"] == text
