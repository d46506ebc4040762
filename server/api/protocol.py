"""uvicorn's HTTP/1.1 parser with our answer to what is no HTTP, comes too slowly or is too much: an error object and a
request id, then the end.

Knows bytes on a connection; what is HTTP goes to the guard.
"""

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.api import wire
from server.config import Settings
from server.errors import Fault, HeadersTooLarge, Invalid, Late

REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}
SLACK_BYTES = 256 * 2**10
"""What may arrive in one piece with a head: the first bytes of its body."""


class Protocol(HttpToolsProtocol):
    """One connection. `limits` bounds how long a request line and its headers may take, and how large they are."""

    limits: Settings

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        if self._deadline is None:  # another request on a connection that was kept
            self._await_head(begun=1)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_here()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        most = self.limits.max_header_bytes + self.limits.max_url_bytes + SLACK_BYTES
        if self._deadline is not None and self._head_bytes > most:
            self._refuse(HeadersTooLarge("headers_too_large", f"a request line and headers may have {most} bytes"))

    def _await_head(self, begun: int = 0) -> None:
        self._head_bytes = begun
        self._deadline = self.loop.call_later(self.limits.receive_seconds, self._late)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        """A connection on which nothing ever came is closed without a word."""
        if self._head_bytes:
            seconds = self.limits.receive_seconds
            self._refuse(Late("body_timeout", f"the headers did not arrive within {seconds:g} seconds"))
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        self._refuse(Invalid("invalid_request", "this is not HTTP/1.1"))

    def _refuse(self, fault: Fault) -> None:
        self._head_is_here()
        body = wire.dumps(wire.error(fault)).encode()
        status = fault.rule.status
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {secrets.token_hex(16)}",
            f"x-should-retry: {'true' if fault.rule.retryable else 'false'}",
            "connection: close",
        )
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()


def protocol(settings: Settings) -> type[Protocol]:
    """Of one server: uvicorn makes the connections itself, with arguments of its own."""
    return type("Connection", (Protocol,), {"limits": settings})
