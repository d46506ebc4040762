"""A stream of events: `data: {json}` and a blank line, LF only (some clients lose CRLF events). A string is sent as is.

Knows the protocol; what the events say is the caller's. Ends when the client leaves; one that reads nothing for too
long is cut off by `outgoing`, and has left then.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.disconnect import while_connected
from server.api.wire import encoded

Events = AsyncGenerator[Any, None]


class EventStream(Response):
    """`first` has been waited for already, so that what fails before it still has a status of its own."""

    media_type = "text/event-stream"

    def __init__(self, first: Any, rest: Events) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the shape of ASGI
        async with aclosing(self._rest):
            try:
                await while_connected(receive, self._write(send))
            except ClientDisconnect:
                return

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await self._event(send, self._first)
        async for event in self._rest:
            await self._event(send, event)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _event(self, send: Send, event: Any) -> None:
        said = event.encode() if isinstance(event, str) else encoded(event)
        body = b"data: %b\n\n" % said
        await send({"type": "http.response.body", "body": body, "more_body": True})
