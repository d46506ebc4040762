"""Clients that would keep a server from ending, each in a way of its own."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import httpx

from tests.server.site import connect

HEAD = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
Cling = Callable[[str], AbstractContextManager[None]]
"""Of the server's address."""
LONG: dict[str, Any] = {"inputs": "play", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}


def sent(url: str, data: bytes, *, small: bool = False) -> socket.socket:
    """A connection on which `data` was sent. `small`: it takes in next to nothing."""
    address = httpx.URL(url)
    connection = socket.socket()
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(60)
    connection.connect((address.host, address.port))
    connection.sendall(data)
    return connection


def posted(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data


@contextmanager
def half_sent(url: str) -> Iterator[None]:
    """A body whose rest never comes."""
    with sent(url, HEAD + b'Content-Length: 1000\r\n\r\n{"inputs"'):
        yield


@contextmanager
def silent(url: str) -> Iterator[None]:
    """Connections on which nothing is ever said, and half a head."""
    with connect(url), connect(url), sent(url, HEAD[:20]):
        yield


@contextmanager
def kept(url: str) -> Iterator[None]:
    """A connection that was used and is kept."""
    with connect(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        yield


@contextmanager
def deaf(url: str) -> Iterator[None]:
    """Streams and a long answer that nobody reads: the window of each is closed."""
    wide = {**LONG, "parameters": {**LONG["parameters"], "n": 16, "details": True}}
    streamed = posted({**LONG, "stream": True})
    with sent(url, streamed, small=True), sent(url, posted(wide), small=True):
        yield


@contextmanager
def handshaking(url: str) -> Iterator[None]:
    """The first bytes of a TLS handshake that is not gone on with."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    hello = context.wrap_bio(ssl.MemoryBIO(), out)
    with suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    said = out.read()
    with sent(url, said[: len(said) // 2]), sent(url, said):
        yield
