"""One server process: a socket, the signals, and an end that lets what runs finish."""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, cast

import uvicorn
from starlette.types import ASGIApp
from transformers.utils.logging import disable_progress_bar

from prompt_store.errors import BaseDamaged, StoreError
from server.account import Trace, untraced
from server.advisories import outdated
from server.api.auth import Keys
from server.api.door import Door
from server.api.ops import VERSION
from server.api.protocol import Edge, protocol
from server.api.turnstile import Turnstile
from server.app import Started, build, routes, started
from server.config import OTLP_HTTP, BadSettings, Settings, otlp_protocol, read
from server.engine.checkpoint import BadBase
from server.heap import settle, share_one
from server.leaving import FLUSH_SECONDS, Leaving
from server.lifecycle import Lifecycle
from server.publish import Desk
from server.telemetry import configure, logger
from server.tls import Tls, tls

Announce = Callable[[Settings, Started], None]
SWITCH_SECONDS = 1e-4
"""That Python lets one thread go on when another wants to, by default 5e-3. The engine gives up its turn at every
operation: it waited so long for the next while many requests came, and did half as much (docs/log.md)."""
KEPT_SECONDS = 30
"""That a connection waits for its next request to begin."""
POLITE_SECONDS = 0.25
"""For clients that have read everything to close their side too."""


class Listening(uvicorn.Server):
    """uvicorn's server behind our door."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings
        self._doors: list[Door] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        for listening in sockets or []:
            door = Door(listening, self._guest, self._settings, self.config.ssl)
            door.open(self.config.backlog)
            self._doors.append(door)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(sockets)
        self._edge.often.sum_up()  # nobody else would tell

    @property
    def _edge(self) -> type[Edge]:
        return cast("type[Edge]", self.config.http_protocol_class)

    def _guest(self) -> asyncio.Protocol:
        return self._edge(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def shut(self) -> None:
        """Nobody is let in any more."""
        for door in self._doors:
            door.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.shut()
        await super().shutdown(sockets)


class Process(Listening):
    """With an end of ours: readiness goes first, the socket stays open as long as anything runs."""

    def __init__(self, config: uvicorn.Config, up: Started, leaving: Leaving) -> None:
        super().__init__(config, up.desk.settings)
        self._up = up
        self._leaving = leaving

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are ours, from before there was anything to serve

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._leaving.serving = True
        for listening in sockets or []:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            logger().info("ready", url=f"{self._up.desk.settings.scheme}://{shown}:{port}")

    async def main_loop(self) -> None:
        ending = asyncio.create_task(self._ending())
        await super().main_loop()
        await ending

    async def _ending(self) -> None:
        """Until somebody asks for the end or the engine comes to its own, and nothing runs any more."""
        try:
            asked = asyncio.create_task(self._leaving.asked.wait())
            ended: set[asyncio.Future[Any]] = {asked, self._up.desk.room.running.ended}
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                self._leaving.failed()
            await self._leaving.drained(self._up)
        finally:
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Nobody is let in any more; who was answered may read the answer to its end, in time."""
        self.shut()
        for listening in sockets or ():
            listening.close()
        connections = self.server_state.connections
        for connection in list(connections):
            connection.shutdown()
        polite = time.monotonic() + POLITE_SECONDS

        def read() -> bool:
            return not any(_unread(one.transport, time.monotonic() < polite) for one in connections)

        await self._leaving.until(read, FLUSH_SECONDS)
        for connection in list(connections):
            connection.transport.abort()


def _unread(transport: asyncio.Transport, polite: bool) -> bool:
    """Whether the client has still to take something, or, to be `polite`, the end of the connection (TLS has one)."""
    return polite or transport.get_write_buffer_size() > 0


def run(settings: Settings, announce: Announce) -> NoReturn:
    """Until the end of the process, with its exit code: 0 where somebody asked for it.

    Raises what `started` does, and OSError where the address is taken. What is to be kept is kept by then. Python's
    own end would wait for threads that hang in the store, and takes torch apart piece by piece: it is left out.
    """
    code = asyncio.run(serve(settings, announce))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def start(given: Mapping[str, Any], announce: Announce) -> list[str]:
    """`run` with these settings over the environment's. Gives what kept it from starting, in a line each."""
    try:
        settings = read(given)
    except BadSettings as error:
        return error.lines
    try:
        run(settings, announce)
    except StoreError as error:
        return [f"--store {settings.store}: {error}"]
    except (BadBase, BaseDamaged, OSError, ValueError) as error:
        return [" ".join(str(error).split())]


async def serve(settings: Settings, announce: Announce) -> int:
    """The exit code, in the end. Raises as `run` does."""
    configure()
    sys.setswitchinterval(SWITCH_SECONDS)
    _warn()
    share_one()
    disable_progress_bar()
    leaving = Leaving(settings.drain_seconds)
    with bound(settings) as listening, leaving.signals():
        secured = tls(settings)
        if secured is not None:
            _tell(secured)
        async with started(settings) as up:
            announce(settings, up)
            settle()
            with traced(up) as trace:
                config = configuration(build(up, leaving.lifecycle, trace), up.desk, leaving.lifecycle, secured)
                await Process(config, up, leaving).serve([listening])
        logger().info("stopped")
    return leaving.code


@contextlib.contextmanager
def traced(up: Started) -> Iterator[Trace]:
    """Requests are traced where OpenTelemetry's variables name a collector; why they are not is said otherwise."""
    protocol = otlp_protocol()
    if protocol != OTLP_HTTP:
        if protocol is not None:
            logger().warning("traces are not sent: this server speaks http/protobuf alone")
        yield untraced
        return
    try:
        from server.tracing import Traces  # noqa: PLC0415 - an extra, and nobody else should wait for it
    except ImportError:
        logger().warning("traces are not sent: pip install 'softprompt-server[otel]'")
        yield untraced
        return
    traces = Traces(VERSION, up.desk.room.running.engine.base.base.name)
    try:
        yield traces
    finally:
        traces.close()


def _warn() -> None:
    for one in outdated():
        known = one.advisory
        told = {"package": known.package, "installed": one.installed, "fixed": known.fixed, "advisory": known.names}
        logger().warning("a package has a known vulnerability", **told)


def _tell(secured: Tls) -> None:
    if secured.doubt is not None:
        logger().warning("clients may refuse the certificate", reason=secured.doubt)
    if secured.until is not None:
        logger().info("certificate", until=secured.until.isoformat())


def configuration(app: ASGIApp, desk: Desk, lifecycle: Lifecycle, secured: Tls | None = None) -> uvicorn.Config:
    """How uvicorn serves the application. No proxy's headers are believed: nothing here asks who the client is."""
    turnstile = Turnstile(Keys(desk.settings), desk.room.running, lifecycle, routes())
    return uvicorn.Config(
        app,
        http=protocol(desk.settings, desk.room.meter, turnstile),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=None if secured is None else lambda *_: secured.context,
        timeout_keep_alive=KEPT_SECONDS,
    )


def bound(settings: Settings) -> socket.socket:
    """Taken before the base is loaded: a port in use is said at once. Nothing is accepted before `listen`."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol by name: asyncio turns Nagle off only where it stands, and a body would wait for its headers' ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        bound.close()
        where = f"{settings.host}:{settings.port}"
        raise OSError(
            f"{where} cannot be bound: {error.strerror}; choose another with --port or SOFTPROMPT_PORT"
        ) from error
    return bound
