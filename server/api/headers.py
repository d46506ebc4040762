"""The headers on every answer: its request's id, and what a browser may do with it. Knows no routes."""

import re
import secrets
from collections.abc import Iterable

from server.config import HOST_NAME, is_loopback

Headers = list[tuple[bytes, bytes]]

NOTHING = b"default-src 'none'; frame-ancestors 'none'"
"""The policy of an answer that is data and says nothing else: opened in a browser it runs, loads and sends nothing."""
HSTS = b"max-age=31536000"
HOST = re.compile("(?P<name>" + HOST_NAME + ")(?::[0-9]{1,5})?")
REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def request_id_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The client's, when it is a plain one."""
    for name, value in headers:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(16).encode()


def _host_in(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The name in the Host header, where it is one."""
    given = next((value for name, value in headers if name == b"host"), b"")
    match = HOST.fullmatch(given.decode("latin-1"))
    return match["name"].lower() if match else ""


def is_strict(scheme: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """For a request with these headers. A browser that has been told once never asks its host without TLS again, on no
    port: names of this machine are spared."""
    return scheme == "https" and not is_loopback(_host_in(headers))


def with_safe_ones(headers: Headers, *, strict: bool) -> Headers:
    """`headers`, and those that are missing. A route's own policy stands. `strict`: only with TLS from here on."""
    own = {name.lower() for name, _ in headers}
    safe = [
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", NOTHING),
        (b"referrer-policy", b"no-referrer"),
    ]
    if strict:
        safe.append((b"strict-transport-security", HSTS))
    return [*headers, *(pair for pair in safe if pair[0] not in own)]
