"""Requests of a server that is leaving: what may still begin, what is told at the end, and no connection is kept.

Knows the protocol and that there is an end; not what runs.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.desk_of import desk_of
from server.api.errors import fault_response
from server.errors import Unavailable
from server.lifecycle import Lifecycle

CLOSE = (b"connection", b"close")
DRAINING = "the server is shutting down"


async def admit(request: Request) -> None:
    """A dependency of every route, after the keys: nothing begins any more that changes or computes something.

    Raises Unavailable. What only reads, the probes among it, is answered to the end.
    """
    if request.method == "GET" or not request.app.state.lifecycle.draining:
        return
    if not desk_of(request).room.running.engine.healthy:
        raise Unavailable("engine_failed", "the engine has stopped")
    raise Unavailable("draining", DRAINING)


class Answering:
    """Between the guard and the application: knows who is being answered, for the end to wait for, or to cut off."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self.app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._lifecycle.draining:
                    others = [(name, value) for name, value in message["headers"] if name.lower() != CLOSE[0]]
                    message["headers"] = [*others, CLOSE]
            await send(message)

        task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # uvicorn makes one a request
        self._lifecycle.running.add(task)
        try:
            await self.app(scope, receive, answer)
        except asyncio.CancelledError:
            if not self._lifecycle.over:
                raise
            task.uncancel()
            if not started:  # else the connection is closed in the middle, which no client takes for the end
                await fault_response(Unavailable("draining", DRAINING))(scope, receive, answer)
        finally:
            self._lifecycle.running.discard(task)
