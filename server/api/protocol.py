"""One connection: our framing in front of uvicorn's parser, absolute deadlines, and our answer to what is no HTTP,
comes too slowly or is too much: an error object and a request id, then the end.

The same over httptools and over h11: a parser sees one request at a time, judged before. HTTP goes to the guard.
"""

import asyncio
import secrets
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.api.door import Door
from server.api.framing import Bounds, Framing, Piece
from server.api.headers import is_strict
from server.api.idle import Rank
from server.api.outgoing import LINGER_SECONDS, Outgoing
from server.api.turnstile import Turned, Turnstile
from server.api.words import word
from server.config import Settings
from server.engine.admission import Place
from server.errors import Fault, Invalid, Late, Unavailable
from server.metrics import Meter
from server.place import PLACE
from server.telemetry import Often, logger

if TYPE_CHECKING:
    Parser = HttpToolsProtocol  # and H11Protocol, which has the same surface
else:
    Parser = object

HELD_BYTES = 64 * 2**10
"""Of later requests, sent before an earlier one is answered; more is left with the kernel."""
PLACE_SECONDS = 1.0
"""From the edge to the queue, in which nobody else has one's place."""
GRACE_SECONDS = 1.0
"""A route that reads its body answers 408 by itself; this much later the connection does."""


class Stage(Enum):
    """Of the request in hand: none, or its head is not whole; its body is not whole; it is being answered."""

    HEAD = auto()
    BODY = auto()
    WHOLE = auto()


class Edge(Parser):
    """In front of a parser's protocol. `limits`: sizes and seconds."""

    limits: Settings
    meter: Meter
    turnstile: Turnstile
    often: Often
    door: Door
    surplus = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        limits = self.limits
        self._framing = Framing(Bounds(limits.max_url_bytes, limits.max_header_bytes, limits.max_headers))
        self._stage = Stage.HEAD
        self._waits = False
        self._begun = False
        self._before: Any = None
        self._refused = False
        self._turning = False
        self._deadline: asyncio.TimerHandle | None = None
        self._outgoing: Outgoing | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._outgoing = Outgoing(transport, self.loop, self.limits.write_seconds, self._unread, self.door.unsent)
        super().connection_made(self._outgoing)
        if self.surplus:
            self._refuse(Unavailable("too_many_connections", "the server has as many connections as it may"))
        else:
            self._within(self.limits.receive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._out.lost()
        self._unset_keepalive_if_required()
        self.door.left(self)
        super().connection_lost(exc)

    def leave(self) -> bool:
        """Ends at once; False where the connection has not begun."""
        if self._outgoing is None:
            return False
        if self._outgoing.get_write_buffer_size():
            self._outgoing.cut()
        else:
            self._outgoing.close()
        return True

    @property
    def _out(self) -> Outgoing:
        if self._outgoing is None:
            raise RuntimeError("the connection has not begun")
        return self._outgoing

    def _unread(self) -> bool:
        return self._refused or self._waits or self._stage is Stage.BODY

    def data_received(self, data: bytes) -> None:
        if self._out.lingering:
            self._out.throw_away(len(data))
        elif not self._out.is_closing():
            self._framing.take(data)
            self._advance()

    def eof_received(self) -> None:
        """A client that says no more has left, but for what it is being sent."""
        self._out.heard_all()

    def _advance(self) -> None:
        """As far as what is here goes, and no further than the end of the request that is being answered."""
        try:
            while self._stage is not Stage.WHOLE and (piece := self._framing.piece()) is not None:
                self._feed(piece)
                if self._out.is_closing():
                    return
        except Fault as fault:
            self._refuse(fault)
            return
        if self._stage is Stage.WHOLE and self._framing.held > HELD_BYTES:
            self.flow.pause_reading()
        elif self._stage is Stage.HEAD and self._framing.begun:
            self._head_begun()

    def _head_begun(self) -> None:
        """A part of it is here. A new connection has been waited for since it came."""
        self._unset_keepalive_if_required()
        if not self._begun:
            self._begun = True
            self.door.idle.put(self, Rank.BEGUN)
        if self._deadline is None:
            self._within(self.limits.receive_seconds)

    def _feed(self, piece: Piece) -> None:
        passed = self.turnstile.passed(piece) if piece.begins else None
        if isinstance(passed, Turned):
            self._turn_away(passed, whole=piece.ends)
            return
        if piece.begins:
            self._in_time()
            self.door.idle.take(self)
            self._stage = Stage.BODY
            self._waits = piece.waits
            self._begun = False
            self._before = self.cycle
        if piece.ends:
            self._in_time()
            self._stage = Stage.WHOLE
        elif piece.begins:
            self._within(self.limits.receive_seconds + GRACE_SECONDS)
        super().data_received(piece.data)
        if passed is not None:
            self._keep_place(passed)
        if piece.ends and not piece.begins and self.cycle.response_complete:
            self._keep()

    def _keep_place(self, place: Place) -> None:
        """Of the request that the parser has seen; it is answered in a later turn of the loop. Not for long: what it
        waits for may be a store that does not answer."""
        if self.cycle is self._before:
            place.leave()
        else:
            cast("dict[str, Any]", self.cycle.scope)[PLACE] = place
            self.loop.call_later(PLACE_SECONDS, place.leave)

    def _turn_away(self, turned: Turned, *, whole: bool) -> None:
        """Answered, and no parser has seen the request; where some of it is still to come, the connection ends."""
        self.meter.failed(turned.fault.code)
        if not whole:
            self._refuse(turned.fault, turned)
            return
        self._in_time()
        self._unset_keepalive_if_required()
        self._begun = False
        self._stage = Stage.WHOLE
        self.transport.write(self._word(turned.fault, turned))
        self._turn()

    def _turn(self) -> None:
        """What follows waits for it: thousands at once stop nobody else, and what is not read is not piled up."""
        if self._out.is_full:
            self._turning = True
        elif self._framing.held:
            self.loop.call_soon(self._turned)
        else:
            self._turned()

    def _turned(self) -> None:
        self._turning = False
        if not self._out.is_closing():
            self.flow.resume_reading()
            self._keep()
            self._advance()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._out.is_closing():
            return
        if self._stage is Stage.WHOLE:
            self._next()
            self._advance()
        elif self._waits:  # whether the body still comes, nobody knows
            self._out.close()
        else:
            self._within(LINGER_SECONDS)

    def _keep(self) -> None:
        """For the next request, for a while."""
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self._next()

    def _next(self) -> None:
        """The request is whole and answered."""
        self._stage = Stage.HEAD
        self._before = self.cycle
        self.door.idle.put(self, Rank.KEPT)

    def _within(self, seconds: float) -> None:
        self._in_time()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        """A connection on which nothing ever came is closed without a word, and one that has its answer."""
        seconds = f"within {self.limits.receive_seconds:g} seconds"
        if self._stage is Stage.BODY:
            self._refuse(Late("body_timeout", f"the body did not arrive {seconds}"))
        elif self._framing.begun:
            self._refuse(Late("body_timeout", f"the headers did not arrive {seconds}"))
        else:
            self._out.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._out.full()

    def resume_writing(self) -> None:
        self._out.empty()
        super().resume_writing()
        if self._turning:
            self._turn()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        self._refuse(Invalid("invalid_request", "this is not HTTP/1.1"))

    def _refuse(self, fault: Fault, turned: Turned | None = None) -> None:
        """The last word on this connection, unless an answer has begun."""
        self._in_time()
        self._refused = True
        cycle = None if self.cycle is self._before else self.cycle
        if cycle is None or not cycle.response_started:
            self.transport.write(self._word(fault, turned, last=True))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _word(self, fault: Fault, turned: Turned | None = None, *, last: bool = False) -> bytes:
        """A whole answer, counted and logged. Who is not turned away was not read that far, and is no crowd's."""
        status = fault.rule.status
        method, route = ("other", "none") if turned is None else ("POST", turned.route)
        named = secrets.token_hex(16) if turned is None else turned.request_id
        strict = turned is not None and is_strict(self.scheme, turned.headers)
        self.meter.answered(method, route, status)
        told: dict[str, str | int] = {"method": method, "route": route, "status": status, "code": fault.code}
        if turned is None:
            logger().info("request", request_id=named, **told)
        else:
            self.often.request(self.loop.call_later, named, turned.caller, **told)
        return word(fault, named, last=last, pages=bool(self.limits.cors_origins), strict=strict)


class OverHttpTools(Edge, HttpToolsProtocol):
    """A parser in C."""


class OverH11(Edge, H11Protocol):  # type: ignore[misc]  # at run time it has no other base
    """A parser in Python."""


PARSERS: dict[str, type[Edge]] = {"httptools": OverHttpTools, "h11": OverH11}


def protocol(settings: Settings, meter: Meter, turnstile: Turnstile) -> type[Edge]:
    """Of one server: uvicorn makes the connections itself, with arguments of its own."""
    own = {"limits": settings, "meter": meter, "turnstile": turnstile, "often": Often()}
    return type("Connection", (PARSERS[settings.http_parser],), own)
