"""In front of everything: what is refused before it is routed, the headers of every answer, and the one log line.

Knows the protocol; no routes, no keys. The path is taken as it was sent: nothing of ours needs percent-decoding, and
what was encoded must not turn into a separator.
"""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.account import Account, Trace, opened, untraced
from server.api.bodies import HELD, Bodies
from server.api.cors import CrossOrigin, forged
from server.api.errors import fault_response
from server.api.headers import HOST, is_strict, request_id_in, with_safe_ones
from server.config import Settings, is_loopback
from server.errors import ExpectationFailed, Fault, Forbidden, Invalid, Unsupported
from server.metrics import Meter
from server.place import PLACE, kept
from server.telemetry import logger

UNTRACED = {b"/livez", b"/readyz", b"/startupz", b"/health", b"/ping", b"/metrics"}
"""Asked by machines every few seconds."""
FAULT = "softprompt.fault"


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: Settings, meter: Meter, trace: Trace = untraced) -> None:
        self.app = CrossOrigin(app, settings.cors_origins)
        self._refusing = CrossOrigin(_refuse, settings.cors_origins)
        self._trace = trace
        self._meter = meter
        self._settings = settings
        self._bodies = Bodies(settings.bodies_budget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_in(scope["headers"])
        account = Account(time.monotonic(), _method(scope), request_id.decode(), scope.get("server"), scope["scheme"])
        trace = untraced if scope["raw_path"] in UNTRACED else self._trace

        unasked = any(name == b"expect" for name, _ in scope["headers"])

        async def asking() -> Message:
            nonlocal unasked
            unasked = False
            return await receive()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                account.status = message["status"]
                strict = is_strict(scope["scheme"], scope["headers"])
                headers = with_safe_ones([*message["headers"]], strict=strict)
                closed = [(b"connection", b"close")] if unasked else []  # whether its body still comes, nobody knows
                message["headers"] = [*headers, *closed, (b"x-request-id", request_id)]
            await send(message)

        with (
            structlog.contextvars.bound_contextvars(request_id=account.request_id),
            trace(account, scope["headers"]),
            opened(account),
            kept(scope.get(PLACE)),
        ):
            scope["path"] = scope["raw_path"].decode("latin-1")
            scope["root_path"] = ""
            scope[FAULT] = fault = self._fault(scope)
            scope[HELD] = held = self._bodies.hold()
            try:
                await (self.app if fault is None else self._refusal(scope))(scope, asking, answer)
            finally:
                held.release()
                account.route = _route(scope)
                self._told(account)

    def _told(self, account: Account) -> None:
        """The end of every request, in a counter and in one line."""
        took = round((time.monotonic() - account.began) * 1000, 1)
        named = {"method": account.method, "route": account.route, "status": account.status}
        self._meter.answered(account.method, account.route, account.status)
        logger().info("request", **named, ms=took, **account.said())

    def _refusal(self, scope: Scope) -> ASGIApp:
        """A page may read why it was refused; a preflight, which a list alone would answer, is refused too."""
        return _refuse if scope["method"] == "OPTIONS" else self._refusing

    def _fault(self, scope: Scope) -> Fault | None:
        """The first thing wrong with the headers; sizes and what is no HTTP were refused before."""
        for name, value in scope["headers"]:
            if name == b"content-encoding":
                return Unsupported("unsupported_content_encoding", "bodies are taken as they are, without an encoding")
            if name == b"expect" and value.lower() != b"100-continue":
                return ExpectationFailed("expectation_failed", "only 100-continue can be expected")
        return self._foreign(scope)

    def _foreign(self, scope: Scope) -> Fault | None:
        """A browser that was led here by a name that is not ours, or by a page of another origin."""
        if not self._host_is_ours([value for name, value in scope["headers"] if name == b"host"]):
            return Invalid("invalid_request", "the Host header is missing, doubled or not one of this server")
        settings = self._settings
        if not settings.closed and forged(scope, settings.cors_origins):  # a key is what no page of others can add
            return Forbidden("cross_origin", "a page of another origin may not change anything here")
        return None

    def _host_is_ours(self, hosts: list[bytes]) -> bool:
        match = HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if match is None:
            return False
        name = match["name"].lower()
        if self._settings.allowed_hosts:
            return name in {host.lower() for host in self._settings.allowed_hosts}
        return is_loopback(name) or not is_loopback(self._settings.host)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await fault_response(scope[FAULT])(scope, receive, send)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in {"GET", "PUT", "POST", "PATCH", "DELETE"} else "other"


def _route(scope: Scope) -> str:
    """The route's template: the path itself is input."""
    return str(getattr(scope.get("route"), "path", "none"))
