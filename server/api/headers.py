"""The headers on every answer: its request's id, and what a browser may do with it. Knows no routes."""

import re
import secrets
from collections.abc import Iterable

from server.config import is_loopback

Headers = list[tuple[bytes, bytes]]

NOTHING = b"default-src 'none'; frame-ancestors 'none'"
"""The policy of an answer that is data and says nothing else: opened in a browser it runs, loads and sends nothing."""
HSTS = b"max-age=31536000"
REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def request_id_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The client's, when it is a plain one."""
    for name, value in headers:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(16).encode()


def with_safe_ones(headers: Headers, scheme: str, host: str) -> Headers:
    """`headers`, and those that are missing. A route's own policy stands.

    A browser that has been told once never asks `host` without TLS again, on no port: names of this machine are spared.
    """
    own = {name.lower() for name, _ in headers}
    safe = [
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", NOTHING),
        (b"referrer-policy", b"no-referrer"),
    ]
    if scheme == "https" and not is_loopback(host):
        safe.append((b"strict-transport-security", HSTS))
    return [*headers, *(pair for pair in safe if pair[0] not in own)]
