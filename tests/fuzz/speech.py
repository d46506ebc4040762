"""Bytes to and from a server: sent in pieces, and what came back read as strictly as HTTP/1.1 can be.

Knows the protocol and the shape of our errors; not what was asked.
"""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx

from server.errors import RULES

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [\x20-\x7e]{0,60}")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e\x80-\xff]*)")
CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
CODES = {rule.status: rule.codes for rule in RULES.values()}
LONGEST_ERROR = 4096
ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER that makes of a close a reset."""


class NotHttpError(Exception):
    """What came back is no answer, or one that ours are not."""


class CutError(NotHttpError):
    """What came back ends too early."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`closes`: it said that the connection would be closed."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get(b"connection", b"").lower() == b"close"


class Line:
    """One connection. Everything received so far is in `received`."""

    def __init__(self, url: str, seconds: float) -> None:
        address = httpx.URL(url)
        self._socket = socket.create_connection((address.host, address.port or 80), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.ended = False

    def send(self, pieces: Sequence[bytes], pauses: Sequence[float]) -> None:
        """A segment each. A server that has closed already has had enough."""
        with suppress(OSError):
            for piece, pause in zip(pieces, pauses, strict=True):
                self._socket.sendall(piece)
                if pause:
                    threading.Event().wait(pause)

    def half_close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """With a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def read_until(self, answers: int, methods: Sequence[str], seconds: float) -> None:
        """Until so many final answers are whole, the connection has ended, or the time is up."""
        deadline = time.monotonic() + seconds
        while not self.ended and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return
            except OSError:
                data = b""
            self.received += data
            self.ended = not data
            if answers and whole(self.received, methods) >= answers:
                return


def whole(received: bytes, methods: Sequence[str]) -> int:
    """How many final answers are there."""
    try:
        return len(answers_in(received, methods))
    except CutError as error:
        return int(error.args[1])
    except NotHttpError:
        return 0


def answers_in(received: bytes, methods: Sequence[str]) -> list[Answer]:
    """Every final answer. Raises CutError, with the number of whole ones, or NotHttpError.

    `methods` of the requests tell which answers have no body; past its end there are none to HEAD.
    """
    found: list[Answer] = []
    rest = received
    while rest:
        head, separator, after = rest.partition(b"\r\n\r\n")
        if not separator:
            if not b"HTTP/1.1 ".startswith(rest[:9]):
                raise NotHttpError(f"no status line: {rest[:60]!r}")
            raise CutError("the head of an answer is cut", len(found))
        status, headers = _head(head)
        if status < 200:
            if status != 100:
                raise NotHttpError(f"an interim answer {status}")
            rest = after
            continue
        is_head = len(found) < len(methods) and methods[len(found)] == "HEAD"
        body, rest = (b"", after) if is_head or status in {204, 304} else _body(headers, after, len(found))
        found.append(Answer(status, headers, body))
    return found


def _head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    line, *lines = head.split(b"\r\n")
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        raise NotHttpError(f"no status line: {line[:60]!r}")
    headers: dict[bytes, bytes] = {}
    for one in lines:
        found = HEADER.fullmatch(one)
        if found is None:
            raise NotHttpError(f"no header: {one[:60]!r}")
        name = found[1].lower()
        if name in headers and name in {b"content-length", b"transfer-encoding", b"x-request-id", b"content-type"}:
            raise NotHttpError(f"a header twice: {name!r}")
        headers[name] = found[2]
    return int(match[1]), headers


def _body(headers: dict[bytes, bytes], rest: bytes, before: int) -> tuple[bytes, bytes]:
    """And what follows it."""
    if headers.get(b"transfer-encoding") == b"chunked":
        if b"content-length" in headers:
            raise NotHttpError("an answer with a length and in chunks")
        return _chunks(rest, before)
    length = headers.get(b"content-length", b"")
    if not length and headers.get(b"connection", b"").lower() == b"close":
        return rest, b""  # to the end of the connection
    if not length.isdigit():
        raise NotHttpError("an answer without a length")
    if len(rest) < int(length):
        raise CutError("the body of an answer is cut", before)
    return rest[: int(length)], rest[int(length) :]


def _chunks(rest: bytes, before: int) -> tuple[bytes, bytes]:
    body = b""
    while True:
        match = CHUNK.match(rest)
        if match is None:
            if b"\r\n" in rest[:12] or len(rest) > 12:
                raise NotHttpError(f"no chunk: {rest[:60]!r}")
            raise CutError("the chunks of an answer are cut", before)
        size, rest = int(match[1], 16), rest[match.end() :]
        if len(rest) < size + 2:
            raise CutError("a chunk of an answer is cut", before)
        if rest[size : size + 2] != b"\r\n":
            raise NotHttpError("a chunk without its end")
        body, rest = body + rest[:size], rest[size + 2 :]
        if not size:
            return body, rest


def faults(answer: Answer, *, is_head: bool = False) -> list[str]:
    """What is wrong with an answer, whatever was asked."""
    found = []
    if not re.fullmatch(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", answer.headers.get(b"x-request-id", b"")):
        found.append("no x-request-id")
    if answer.status >= 400 and not is_head:
        found += error_faults(answer.status, answer.body)
    return [f"{answer.status}: {what}" for what in found]


def error_faults(status: int, body: bytes) -> list[str]:
    """What is wrong with an error's body: its shape, its code, its length, or that it is one of ours."""
    if status not in CODES:
        return ["no status of ours"]
    found = ["internal error"] if status == 500 else []
    if len(body) > LONGEST_ERROR:
        found.append(f"{len(body)} bytes")
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return [*found, f"no error object: {body[:80]!r}"]
    if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
        found.append("another error object")
    elif error["code"] not in CODES[status]:
        found.append(f"code {error['code']}")
    return found
