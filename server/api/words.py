"""The bytes of an answer that no route gives: an error object, and all its headers.

A crowd is told the same thing hundreds of times a second: but for the request's id it is written once. Knows faults and
headers; no connection.
"""

from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import cast

from server.api import wire
from server.api.errors import RETRY_SECONDS
from server.api.headers import with_safe_ones
from server.errors import Fault

Kind = Callable[[str, str, str | None], Fault]
KEPT = 1024
"""Different ones: nothing in them but the seconds to wait is ever counted, and no word is a client's."""


def word(fault: Fault, request_id: str, *, last: bool, pages: bool, strict: bool) -> bytes:
    """`last`: the connection ends behind it. `pages`: those of other origins are answered, by the routes. `strict`: a
    browser is to come with TLS alone."""
    given = tuple(fault.headers.items())
    kind = cast("Kind", type(fault))
    before, behind = _around_id(kind, fault.code, fault.message, fault.param, given, last, pages, strict)
    return b"".join((before, request_id.encode(), behind))


@lru_cache(KEPT)
def _around_id(  # noqa: PLR0913, PLR0917 - all that the bytes depend on
    kind: Kind,
    code: str,
    message: str,
    param: str | None,
    given: tuple[tuple[str, str], ...],
    last: bool,
    pages: bool,
    strict: bool,
) -> tuple[bytes, bytes]:
    """What stands in front of the request's id, and what behind it."""
    fault = kind(code, message, param)
    body, rule = wire.dumps(wire.error(fault)).encode(), fault.rule
    first = {"content-type": "application/json", "content-length": str(len(body)), "x-request-id": ""}
    rest = {
        "x-should-retry": "true" if rule.retryable else "false",
        **({"connection": "close"} if last else {}),
        **({"vary": "Origin"} if pages else {}),
        **({"retry-after": RETRY_SECONDS} if rule.status == HTTPStatus.SERVICE_UNAVAILABLE else {}),
        **{name.lower(): value for name, value in given},
    }
    headers = [(name.encode(), value.encode()) for name, value in {**first, **rest}.items()]
    lines = [b": ".join(pair) for pair in with_safe_ones(headers, strict=strict)]
    before = [f"HTTP/1.1 {rule.status} {HTTPStatus(rule.status).phrase}".encode(), *lines[: len(first)]]
    return b"\r\n".join(before), b"\r\n".join((b"", *lines[len(first) :])) + b"\r\n\r\n" + body
