"""Bytes that are no HTTP, or two requests in one, or come for ever: H19 to H25, over both parsers."""

import random
import ssl
import time

import pytest

from tests.attacks.edge import HOST, Edge, answered, closed, posted, request
from tests.attacks.victim import DEADLINE
from tests.server.site import connect, read_answer

CHUNKED = b"Transfer-Encoding: chunked"
BODY = b'{"inputs": "x"}'
CHUNKS = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"
LATEST = 10.0
"""Seconds after a deadline, on a busy machine."""


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request(b"/livez", b"X: " + b"a" * 10_000_000), 431, "headers_too_large"),
        (request(b"/livez", *[b"a: b"] * 20_000), 431, "headers_too_large"),
        (request(b"/livez", b"X: " + b"a" * 2**15), 431, "headers_too_large"),
        (request(b"/livez", *[b"a: b"] * 100), 431, "headers_too_large"),
        (request(b"/" + b"a" * 1_000_000), 414, "url_too_long"),
        (request(b"/livez?" + b"a" * 2**13), 414, "url_too_long"),
    ],
    ids=["10 MB header", "20,000 headers", "a header too long", "a header too many", "1 MB URL", "a URL too long"],
)
def test_H19_heads_without_bounds(edge: Edge, sent: bytes, status: int, code: str) -> None:
    """The answer reaches a client that has not stopped sending."""
    edge.refused(sent, status, code, closes=True)


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 15", CHUNKED),
        (CHUNKED, b"Content-Length: 15"),
        (b"Content-Length: 15", b"Content-Length: 15"),
        (b"Content-Length: 15", b"Content-Length: 16"),
        (b"Content-Length: -1",),
        (b"Content-Length: +15",),
        (b"Content-Length: 15, 15",),
        (b"Content-Length: 100000000000000000000",),
        (b"Content-Length: 0x0f",),
        (b"Content-Length:",),
        (b"Content-Length: 1 5",),
    ],
)
def test_H20_two_lengths_or_none(edge: Edge, headers: tuple[bytes, ...]) -> None:
    """Where a body ends is never a matter of opinion."""
    edge.refused(posted(*headers, body=BODY), 400, "invalid_request", closes=True)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n" + BODY,
        b"-f\r\n" + BODY,
        b"0xf\r\n" + BODY,
        b"f \r\n" + BODY,
        b"\r\n" + BODY,
        b"ffffffffffffffffffff\r\n",
        b"f\n" + BODY + b"\n0\n\n",
        b"f\r\n" + BODY + b"0\r\n\r\n",
        b"f\r\n" + BODY + b"XX0\r\n\r\n",
        b"f;" + b"x" * 1_000_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"f;\0\r\n" + BODY,
        CHUNKS[:-2] + b"Trailer: x\r\n\r\n",
        CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n",
        b"1\r\nx\r\n" * 10_000,
    ],
    ids=lambda body: repr(body[:20] + body[-20:]),
)
def test_H21_chunks_that_are_none(edge: Edge, body: bytes) -> None:
    """Sizes, ends, a megabyte of extension, trailers, chunks of a byte without end."""
    edge.refused(posted(CHUNKED, body=body), 400, "invalid_request", closes=True)


@pytest.mark.parametrize(
    "sent",
    [
        request().replace(b"\r\n", b"\n"),
        b"GET /livez HTTP/1.1\n" + HOST + b"\r\n\r\n",
        request(b"/livez", b"A: b\n"),
        request(b"/livez", b"A: b\rc: d"),
        request(b"/livez", b"A: b", b" folded"),
        request(b"/livez", b"A: b", b"\tfolded"),
        request(b"/livez", b" A: b"),
        request(b"/livez", b"A: \0b"),
        request(b"/livez\0"),
        request(b"/livez", b"A : b"),
        request(b"/livez", b"A\t: b"),
        request(b"/livez", b": b"),
        request(b"/livez", b"A"),
        request(b"/livez", b"A(b): c"),
        request(b"/livez", b"A: \x7f"),
        posted(b"Transfer-Encoding: xchunked", body=CHUNKS),
        posted(b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
        posted(b"Transfer-Encoding: identity", body=CHUNKS),
        posted(b"Transfer-Encoding: \x0bchunked", body=CHUNKS),
        posted(CHUNKED, CHUNKED, body=CHUNKS),
    ],
    ids=lambda sent: repr(sent[-50:]),
)
def test_H22_lines_that_parsers_read_differently(edge: Edge, sent: bytes) -> None:
    """Each of them is one request to one program and two to another."""
    edge.refused(sent, 400, "invalid_request", closes=True)


def hello() -> bytes:
    """What a client says that expects TLS."""
    said = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()


STRANGE = {
    "HTTP/0.9": b"GET /livez\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": request().replace(b"HTTP/1.1", b"HTTP/1.2"),
    "http/1.1": request().replace(b"HTTP/1.1", b"http/1.1"),
    "HTTP/1.0 without a host": b"GET /livez HTTP/1.0\r\n\r\n",
    "HTTP/1.0 in chunks": posted(CHUNKED, body=CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "TLS": hello(),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SMTP": b"EHLO example\r\n",
    "zeros": bytes(64),
    "noise": random.Random(1).randbytes(4096),
    "a flood of noise": random.Random(2).randbytes(2**20),
    "no method": request(method=b"get"),
    "two spaces": request().replace(b" /", b"  /"),
}


@pytest.mark.parametrize("name", [*STRANGE, "HTTP/1.0"])
def test_H23_another_protocol(edge: Edge, name: str) -> None:
    """400 and the end, with a short line in the log; HTTP/1.0 that names a host has its answer, and the end too."""
    if name != "HTTP/1.0":
        edge.refused(STRANGE[name], 400, "invalid_request", closes=True)
        return
    old = request(b"/livez", b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert edge.taken(old).json() == {"status": "ok"}
    with connect(edge.site.url) as connection:
        connection.sendall(old)
        assert answered(read_answer(connection)).headers["connection"] == "close"
        assert closed(connection)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request(b"http://localhost/livez"), 400, "invalid_request"),
        (request(b"http://evil.example/livez"), 400, "invalid_request"),
        (request(b"livez"), 400, "invalid_request"),
        (request(b"*", method=b"OPTIONS"), 400, "invalid_request"),
        (request(b"/livez#x"), 400, "invalid_request"),
        (request(b"localhost:443", method=b"CONNECT"), 405, "method_not_allowed"),
        (request(b"/generate", method=b"CONNECT"), 405, "method_not_allowed"),
    ],
    ids=lambda sent: repr(sent[:30]) if isinstance(sent, bytes) else "",
)
def test_H24_a_target_that_is_no_path(edge: Edge, sent: bytes, status: int, code: str) -> None:
    """This is no proxy."""
    edge.refused(sent, status, code, closes=True)


SLOW = {
    "silence": b"",
    "half a request line": b"GET /livez HT",
    "half a head": request()[:-2] + b"A: ",
    "half a body": posted(b"Content-Length: 1000", body=BODY[:5]),
    "half a chunk": posted(CHUNKED, body=b"ff" + CHUNKS[:5]),
    "a body that nobody reads": request(b"/nowhere", b"Content-Length: 1000", method=b"POST"),
}


@pytest.mark.parametrize("trickles", [False, True], ids=["then silence", "byte by byte"])
@pytest.mark.parametrize("name", SLOW)
def test_H25_ever_so_slowly(edge: Edge, name: str, trickles: bool) -> None:
    """One deadline for the head and one for the body, which no byte moves; 408, or the end where nothing was said."""
    sent, began = SLOW[name], time.monotonic()
    with connect(edge.site.url) as connection:
        connection.sendall(sent)
        connection.settimeout(DEADLINE / 20)
        received, rest = b"", b"a" * 500 if trickles and sent else b""
        while not received:
            try:
                received = read_answer(connection)
                break
            except TimeoutError:
                connection.sendall(rest[:1])
        connection.settimeout(LATEST)
        assert closed(connection)
    assert time.monotonic() - began < 2 * DEADLINE + LATEST
    if name == "silence":
        assert received == b""
    elif name == "a body that nobody reads":
        edge.check(answered(received), 404, "not_found")
    else:
        edge.check(answered(received), 408, "body_timeout")
        assert time.monotonic() - began >= DEADLINE
