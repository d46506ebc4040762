"""Uploads whose request is wrong, or whose client is: U39 to U49."""

import base64
import gzip
import hashlib
import re
import socket
import time
import zlib

import httpx
import pytest

from tests.attacks.attack import Attack
from tests.attacks.files import GOOD
from tests.attacks.victim import DEADLINE, TARGET, UPLOAD_LIMIT, Victim
from tests.server.site import connect, read_answer, status, until


def head(request_id: str, *headers: str, task: str = TARGET) -> bytes:
    lines = (f"PUT /tasks/{task} HTTP/1.1", "Host: localhost", f"x-request-id: {request_id}", *headers, "", "")
    return "\r\n".join(lines).encode()


def answered(raw: bytes) -> httpx.Response:
    """As a client library would show it."""
    before, _, body = raw.partition(b"\r\n\r\n")
    fields = [tuple(line.split(b": ", 1)) for line in before.split(b"\r\n")[1:]]
    return httpx.Response(status(raw), headers=[(name, value) for name, value in fields], content=body)


def closed(connection: socket.socket) -> bool:
    """Whether the server has ended it: nothing more comes, and soon."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("gzip", gzip.compress(GOOD)), ("deflate", zlib.compress(GOOD)), ("br", GOOD), ("identity", GOOD), ("", GOOD)],
)
def test_U39_an_encoding(attack: Attack, encoding: str, data: bytes) -> None:
    """Nothing is unpacked: bodies are taken as they are, and one that says otherwise is not."""
    attack.refused(415, "unsupported_content_encoding", data, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "../../x", "a\0b"])
def test_U40_a_form(attack: Attack, name: str) -> None:
    """Whatever its file is called."""
    attack.refused(415, "unsupported_media_type", GOOD, files={"file": (name, GOOD)})


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/zip", "a", "*/*"])
def test_U41_another_media_type(attack: Attack, kind: str) -> None:
    """None is `curl -T`; octet-stream says the same; the rest is refused before it is looked at."""
    attack.refused(415, "unsupported_media_type", GOOD, headers={"Content-Type": kind})
    task = "typed-" + re.sub(r"\W", "-", kind)
    assert attack.accepted(201, GOOD, task=task).json()["version"] == 1
    typed = {"Content-Type": "application/octet-stream"}
    assert attack.victim.http.put(f"/tasks/{task}", content=GOOD, headers=typed).status_code == 200


@pytest.mark.parametrize("expecting", [True, False])
@pytest.mark.parametrize("more", [1, 2**20, 2**40])
def test_U42_a_body_that_says_it_is_too_large(attack: Attack, expecting: bool, more: int) -> None:
    """Answered by its headers alone: no 100 Continue, and not one byte of it is waited for."""
    expect = ["Expect: 100-continue"] if expecting else []
    with attack.unharmed(413) as request_id, connect(attack.victim.url) as connection:
        connection.sendall(head(request_id, f"Content-Length: {UPLOAD_LIMIT + more}", *expect))
        answer = answered(read_answer(connection))
        assert closed(connection)
    attack.check(answer, 413, "body_too_large", b"")


def test_U43_a_body_without_a_length(attack: Attack) -> None:
    """In chunks, one byte past the limit: the answer comes then, and the connection ends."""
    piece = bytes(2**20)
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
    with attack.unharmed(413, GOOD) as request_id, connect(attack.victim.url) as connection:
        connection.sendall(head(request_id, "Transfer-Encoding: chunked"))
        for _ in range(UPLOAD_LIMIT // len(piece)):
            connection.sendall(chunk)
        connection.sendall(b"1\r\nx\r\n")
        answer = answered(read_answer(connection))
        assert closed(connection)
    attack.check(answer, 413, "body_too_large", GOOD)


@pytest.mark.parametrize("sent", [0, len(GOOD) // 2, len(GOOD) - 1])
def test_U44_less_than_was_announced(attack: Attack, hasty: Victim, sent: int) -> None:
    """Then silence, until the deadline."""
    began = time.monotonic()
    with attack.on(hasty).unharmed(408, GOOD) as request_id, connect(hasty.url) as connection:
        connection.sendall(head(request_id, f"Content-Length: {len(GOOD)}") + GOOD[:sent])
        answer = answered(read_answer(connection))
        assert closed(connection)
    attack.check(answer, 408, "body_timeout", GOOD)
    assert time.monotonic() - began >= DEADLINE


@pytest.mark.parametrize("sent", [0, len(GOOD) // 2, len(GOOD) - 1])
def test_U45_a_client_that_leaves(attack: Attack, sent: int) -> None:
    """Nobody is answered; log and metrics say that it left."""
    counted = 'softprompt_http_requests_total{method="PUT",route="/tasks/{task}",status="499"}'

    def count() -> float:
        found = re.search(rf"^{re.escape(counted)} (\S+)$", attack.victim.http.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = count()
    assert (499, "") in attack.row.answers
    with attack.unharmed(499, GOOD) as request_id:
        with connect(attack.victim.url) as connection:
            connection.sendall(head(request_id, f"Content-Length: {len(GOOD)}") + GOOD[:sent])
        until(lambda: count() == before + 1, "it is counted")


@pytest.mark.parametrize("chunked", [True, False])
def test_U46_a_body_that_trickles(attack: Attack, hasty: Victim, chunked: bool) -> None:
    """The deadline is of the whole body: a byte now and then does not move it."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(GOOD)}"
    began = time.monotonic()
    with attack.on(hasty).unharmed(408, GOOD) as request_id, connect(hasty.url) as connection:
        connection.sendall(head(request_id, length))
        connection.settimeout(DEADLINE / 20)
        received, pieces = b"", iter(GOOD)
        while not received:
            try:
                received = read_answer(connection)
            except TimeoutError:
                byte = bytes([next(pieces)])
                connection.sendall(b"1\r\n" + byte + b"\r\n" if chunked else byte)
    attack.check(answered(received), 408, "body_timeout", GOOD)
    assert DEADLINE <= time.monotonic() - began < DEADLINE + 5


def digest(data: bytes, name: str = "sha256") -> str:
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


@pytest.mark.parametrize(
    "said",
    [
        f"sha-256=:{digest(GOOD[:-1])}:",
        f"sha-512=:{digest(b'', 'sha512')}:",
        f"sha-256=:{digest(GOOD)}:, sha-512=:{digest(b'', 'sha512')}:",
        "sha-256=:AAAA:",
    ],
    ids=["sha-256", "sha-512", "one of two", "too short"],
)
def test_U48_a_digest_of_other_bytes(attack: Attack, said: str) -> None:
    """Damaged on the way; any of several that does not match."""
    attack.refused(422, "digest_mismatch", GOOD, headers={"Content-Digest": said})


@pytest.mark.parametrize(
    "said",
    ["", "sha-256", f"sha-256={digest(GOOD)}", "sha-256=:***:", f"sha-256=:{digest(GOOD)}", ":", "sha-256=:a:, b", "é"],
)
def test_U49_a_digest_that_is_none(attack: Attack, said: str) -> None:
    """A header that cannot be read is not passed over."""
    error = attack.refused(400, "invalid_request", GOOD, headers={"Content-Digest": said})
    assert error["param"] == "Content-Digest"
