"""What strangers say to the edge of a server, byte by byte, and what it must answer.

Knows requests as bytes and the one error shape; the abuse itself is the test's.
"""

import json
import re
import socket
from dataclasses import dataclass

import httpx

from tests.attacks.attack import LONGEST_ANSWER, repeated
from tests.attacks.table import Row
from tests.attacks.victim import Lines
from tests.server.site import Site, connect, read_answer, status, until

HOST = b"Host: localhost"
LONGEST_LINE = 200
"""Bytes of log for what is no HTTP."""


def request(target: bytes = b"/livez", *headers: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    """As it is written, with a Host."""
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", HOST, *headers, b"", body])


def posted(*headers: bytes, body: bytes = b"", target: bytes = b"/generate") -> bytes:
    return request(target, b"Content-Type: application/json", *headers, method=b"POST", body=body)


def put(name: bytes, body: bytes = b'{"template": "{text}"}', *headers: bytes) -> bytes:
    """A text task."""
    length = b"Content-Length: %d" % len(body)
    return request(b"/tasks/" + name, b"Content-Type: application/json", length, *headers, method=b"PUT", body=body)


def answered(raw: bytes) -> httpx.Response:
    """As a client library would show it; its headers may be spelt in any case."""
    before, _, body = raw.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in before.split(b"\r\n")[1:]]
    return httpx.Response(status(raw), headers=[(name, value.strip()) for name, _, value in fields], content=body)


def told(sent: bytes) -> bytes:
    """What was sent but for the names of headers, which a message may say."""
    return b"\0".join(re.sub(rb"^[A-Za-z-]+:", b"", line) for line in sent.split(b"\r\n"))


def closed(connection: socket.socket) -> bool:
    """Whether the server has ended it: nothing more comes, and soon."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@dataclass(frozen=True, slots=True)
class Edge:
    """Of one row, on one server, whose log grows in `log`."""

    site: Site
    log: Lines
    row: Row

    def refused(self, sent: bytes, status: int, code: str, *, closes: bool | None = None) -> httpx.Response:
        """`sent` is answered with this error, in the one shape, repeating nothing, and in the log; others go on.

        `closes`: whether the connection must end, or must not.
        """
        with connect(self.site.url) as connection:
            connection.sendall(sent)
            answer = answered(read_answer(connection))
            if closes:
                assert closed(connection)
            elif closes is False:
                connection.sendall(request())
                assert answered(read_answer(connection)).status_code == 200
        self.check(answer, status, code, sent)
        return answer

    def check(self, answer: httpx.Response, status: int, code: str, sent: bytes = b"") -> None:
        assert (status, code) in self.row.answers, "the table does not have this answer"
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == code, answer.text
        assert answer.headers["x-should-retry"] in {"true", "false"}
        assert len(answer.content) < LONGEST_ANSWER
        line = self.line(answer)
        assert (line["status"], line["code"]) == (status, code)
        assert len(json.dumps(line)) < LONGEST_LINE + len("request_id") + 130
        assert not repeated(told(sent), answer.content.decode(), *line.values())
        assert self.site.http.get("/livez").status_code == 200

    def line(self, answer: httpx.Response) -> dict[str, object]:
        """The one line of log that the request has."""
        named = answer.headers["x-request-id"]

        def found() -> list[dict[str, object]]:
            lines = [line for line in list(self.log) if line.get("request_id") == named]
            return [line for line in lines if line["event"] == "request"]

        until(lambda: bool(found()), "the log has its line")
        (line,) = found()
        return line

    def taken(self, sent: bytes, status: int = 200) -> httpx.Response:
        """What is right is right: the table says so too."""
        assert (status, "") in self.row.answers, "the table does not have this answer"
        with connect(self.site.url) as connection:
            connection.sendall(sent)
            answer = answered(read_answer(connection))
        assert answer.status_code == status, answer.text
        return answer
