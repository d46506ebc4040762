"""Requests as bytes, and clients that do not read."""

import socket
from collections.abc import Collection
from pathlib import Path

from tests.server.site import Site

SECONDS = 1.0
"""That a hasty server waits, both ways."""
LATEST = 15.0
"""Seconds after a deadline, on a busy machine."""
OPEN, ENDING = ("01", "08"), ("04",)
"""States in /proc/net/tcp: ESTABLISHED and CLOSE_WAIT, FIN_WAIT1."""
LARGE = "/static/vendor/swagger-ui-bundle.js"


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers)
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def connections(site: Site, states: Collection[str] = OPEN) -> int:
    """To the server, as the kernel tells it, but for the client's own."""
    port = int(site.url.rpartition(":")[2])
    with Path("/proc/net/tcp").open() as table:
        lines = [line.split() for line in table][1:]
    local = f"{port:04X}"
    return sum(line[1].endswith(":" + local) and line[3] in states for line in lines)


def not_reading(site: Site, request: bytes) -> socket.socket:
    """A client with the smallest window there is."""
    host, port = site.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.settimeout(60)
    connection.connect((host, int(port)))
    connection.sendall(request)
    return connection
