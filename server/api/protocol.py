"""uvicorn's HTTP/1.1 parser with our answer to what is no HTTP: an error object and a request id, then the end.

Knows bytes on a connection; what is HTTP goes to the guard.
"""

import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.api import wire
from server.errors import Invalid


class Protocol(HttpToolsProtocol):
    """One connection."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        body = wire.dumps(wire.error(Invalid("invalid_request", "this is not HTTP/1.1"))).encode()
        head = (
            "HTTP/1.1 400 Bad Request",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {secrets.token_hex(16)}",
            "x-should-retry: false",
            "connection: close",
        )
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()
