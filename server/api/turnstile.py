"""In front of the routes that ask the engine: who would find no room to wait is told before anything else is done.

A crowd costs little then: no routing, no body. Knows keys, the engine's room, and which routes ask; no bodies.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.auth import Keys
from server.api.errors import fault_response
from server.errors import Fault
from server.lifecycle import Lifecycle
from server.running import Running

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_ASKING: set[Callable[..., Any]] = set()


def asks_engine(endpoint: Endpoint) -> Endpoint:
    """Declares that an endpoint, whatever it is asked, needs room in the engine's queue."""
    _ASKING.add(endpoint)
    return endpoint


class Turnstile:
    """Between the guard and the routes. A server that leaves has its own word for newcomers."""

    def __init__(
        self, app: ASGIApp, keys: Keys, running: Running, lifecycle: Lifecycle, routes: Iterable[APIRoute]
    ) -> None:
        self.app = app
        self._keys = keys
        self._running = running
        self._lifecycle = lifecycle
        self._asking = {route.path: route for route in routes if route.endpoint in _ASKING}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._asking.get(scope["path"]) if scope["method"] == "POST" else None
        fault = None if route is None or self._lifecycle.draining else self._refusal(scope)
        if fault is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route  # for the log line and the counter
        await fault_response(fault)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Fault | None:
        try:
            self._running.check_room(self._keys.sender(scope["headers"]).number)
        except Fault as fault:
            return fault
        return None
