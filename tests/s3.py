"""A real S3 server (moto) as a process of its own, and a proxy before it that loses, delays, cuts and flips.

The proxy speaks HTTP and knows nothing of S3: a rule looks at method and path of each request and names a fault.
"""

import http.client
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from uuid import uuid4

Fault = Literal["refuse", "lose", "hang", "late", "flip", "cut", "flip-sent", "stale", "answer"]
"""Closed unanswered · done, but the answer is lost · silent until `released` · done only when `released`, the client
being gone · a byte of the answer differs · half of the answer · a byte of the request differs · the first answer that
the same request had · what `answers` holds for a part of the path."""
Rule = Callable[[str, str], Fault | int | None]
"""Sees method and path; a number is the status to answer with, unasked."""
RUNNING = re.compile(r"http://127\.0\.0\.1:(\d+)")
BUCKET = "bucket"
CODES = {403: "AccessDenied", 409: "ConditionalRequestConflict", 429: "TooManyRequests", 503: "SlowDown"}


def credentials(url: str) -> dict[str, str]:
    """The usual variables, for a server that takes any key."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def new_in_bucket() -> str:
    """The location of a store that nobody else has."""
    return f"s3://{BUCKET}/{uuid4().hex}"


@contextmanager
def served() -> Iterator[int]:
    """The port of an S3 server that has one bucket, `BUCKET`."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr
    assert said is not None
    read = threading.Thread(target=said.read)  # a full pipe would stop it
    try:
        port = next(int(found[1]) for line in said if (found := RUNNING.search(line)))
        read.start()
        ask(port, "PUT", f"/{BUCKET}")
        yield port
    finally:
        process.kill()
        process.wait()
        read.join()
        said.close()


def ask(port: int, method: str, path: str, body: bytes = b"") -> bytes:
    """Past the proxy and past the store: what a stranger with the same credentials could do."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {"Authorization": "AWS4-HMAC-SHA256 Credential=test/x/us-east-1/s3/aws4"})
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status < 300, (answer.status, data)
    connection.close()
    return data


class Proxy:
    """`rule` decides; `asked` is every request that came, as (method, path); `drops` are headers it takes away."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.asked: list[tuple[str, str]] = []
        self.drops: set[str] = set()
        self.answers: dict[str, bytes] = {}
        self.landed: list[tuple[str, int]] = []
        """Of requests that were late: path and the status that nobody heard."""
        self.released = threading.Event()
        self._first: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.rule: Rule = lambda _method, _path: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def first(
        self, path: str, fresh: tuple[int, list[tuple[str, str]], bytes]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """What was answered when this was asked for the first time."""
        return self._first.setdefault(path, fresh)

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()

    @contextmanager
    def faulty(self, rule: Rule) -> Iterator[None]:
        """Under a rule for a while."""
        self.rule = rule
        try:
            yield
        finally:
            self.rule = lambda _method, _path: None


def once(fault: Fault | int, method: str, part: str) -> Rule:
    """The first such request fails, later ones do not."""
    left = [fault]

    def rule(asked: str, path: str) -> Fault | int | None:
        return left.pop() if left and asked == method and part in path else None

    return rule


def always(fault: Fault | int, method: str = "", part: str = "") -> Rule:
    """Every such request fails."""
    return lambda asked, path: fault if method in {"", asked} and part in path else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silent."""

    def _any(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.asked.append((self.command, self.path))
        fault = proxy.rule(self.command, self.path)
        if fault in {"hang", "late"}:
            proxy.released.wait(60)
        if fault in {"hang", "refuse"}:
            return self._hang_up()
        if isinstance(fault, int):
            text = f"<Error><Code>{CODES.get(fault, 'Error')}</Code><Message>no</Message></Error>".encode()
            return self._answer(fault, [], text)
        if fault == "flip-sent":
            body = flipped(body)
        status, headers, data = self._forward(body)
        first = proxy.first(self.path, (status, headers, data)) if self.command == "GET" else None
        if fault == "late":
            proxy.landed.append((self.path, status))
        if fault in {"lose", "late"}:
            return self._hang_up()
        if fault == "stale" and first is not None:
            status, headers, data = first
        if fault == "answer":
            data = next(body for part, body in proxy.answers.items() if part in self.path)
        if fault == "flip":
            data = flipped(data)
        self._answer(status, headers, data, cut=fault == "cut")
        return None

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _any  # noqa: N815 - the base class names them so

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=30)
        dropped = {"connection", "host"} | self.server.proxy.drops
        sent = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection.request(self.command, self.path, body, {**sent, "Host": self.headers["Host"]})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        dropped = {"content-length", "connection", "transfer-encoding", "date", "server"}
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]
        if self.command == "HEAD":
            headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
        return answer.status, headers, data

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def flipped(data: bytes) -> bytes:
    """One bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data
