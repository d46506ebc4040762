"""Who would find no room to wait is told so before the request is even one: a crowd costs little then.

A request that comes whole is judged by its bytes as the framing let them through; one whose body is still to come by
its headers. What is not as plain as a program sends it, and whoever finds room, is left to the routes, which say the
same and everything else. Knows keys, the engine's room, which routes ask it, and where a body names its task.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.routing import APIRoute

from server.api.auth import Keys
from server.api.framing import Piece
from server.api.headers import request_id_in
from server.engine.admission import Place
from server.errors import Fault, TooMany, Unavailable
from server.lifecycle import Lifecycle
from server.lookup import BARE
from server.running import Running

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_ASKING: dict[Callable[..., Any], str] = {}
OWN_WAY = {b"origin", b"connection", b"expect", b"content-encoding"}
"""Headers that change how a request is answered: it goes the long way."""
KEPT = (b"connection", b"keep-alive")
"""What HTTP/1.1 means anyway, and most clients say."""
MOST_BYTES = 16 * 2**10
"""Of a body that is read here."""


def asks_engine(field: str) -> Callable[[Endpoint], Endpoint]:
    """Declares that an endpoint needs room in the engine's queue; `field` of its body names the task."""

    def declare(endpoint: Endpoint) -> Endpoint:
        _ASKING[endpoint] = field
        return endpoint

    return declare


@dataclass(frozen=True, slots=True)
class Turned:
    """Away, with a fault. The rest for its answer and its log line."""

    fault: Fault
    route: str
    request_id: str
    headers: list[tuple[bytes, bytes]]
    caller: int | None


class Turnstile:
    """Of one server. A server that leaves has its own word for newcomers."""

    def __init__(self, keys: Keys, running: Running, lifecycle: Lifecycle, routes: Iterable[APIRoute]) -> None:
        self._keys = keys
        self._running = running
        self._lifecycle = lifecycle
        asking = {route.path: _ASKING[route.endpoint] for route in routes if route.endpoint in _ASKING}
        self._asking = {f"POST {path} HTTP/1.1".encode(): (path, field) for path, field in asking.items()}

    def passed(self, piece: Piece) -> Turned | Place | None:
        """Why a request that begins may turn around at once; or the place that it has; or nothing is said of it here.

        Who gets a place sees that it is left.
        """
        asked = self._asking.get(piece.lines[0])
        if asked is None or self._lifecycle.draining:
            return None
        if (place := self._running.at_once()) is not None:
            return place
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in piece.lines[1:])]
        if any(name in OWN_WAY and (name, value.lower()) != KEPT for name, value in headers):
            return None
        route, field = asked
        caller = None
        try:
            caller = self._keys.sender(headers).number
            self._running.check_room(caller)
            task = _task(piece, field)
            return None if task is None else self._running.expect(caller, task)
        except (TooMany, Unavailable) as fault:
            fault.__context__ = None  # frames that know one another are left for the collector, which stops everybody
            return Turned(fault.with_traceback(None), route, request_id_in(headers).decode(), headers, caller)
        except Fault:
            return None


def _task(piece: Piece, field: str) -> str | None:
    """Of a body that is here and names one, or none; None for any other."""
    body = piece.data.partition(b"\r\n\r\n")[2]
    if not piece.ends or len(body) > MOST_BYTES:
        return None
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return None
    named = asked.get(field, BARE) if isinstance(asked, dict) and "requests" not in asked else None
    return named.removeprefix(f"{BARE}:") if isinstance(named, str) else None
