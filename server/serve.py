"""One server process: a socket, the signals, and an end that lets what runs finish."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from transformers.utils.logging import disable_progress_bar

from prompt_store.errors import BaseDamaged, StoreError
from server.account import Trace, untraced
from server.advisories import outdated
from server.api.ops import VERSION
from server.api.protocol import protocol
from server.app import Lifecycle, Started, build, started
from server.config import OTLP_HTTP, BadSettings, Settings, otlp_protocol, read
from server.engine.checkpoint import BadBase
from server.heap import share_one
from server.telemetry import configure, logger
from server.tls import Tls, tls

Announce = Callable[[Settings, Started], None]
HANGING_SECONDS = 1.0
LAST_WORDS_SECONDS = 5
"""After the engine's deadline: time for what it cut off to be told so, before connections are closed."""


class Process(uvicorn.Server):
    """uvicorn's server with our signals: it ends with exit code 0, and readiness goes first.

    A second signal does not wait for what still runs.
    """

    def __init__(self, config: uvicorn.Config, up: Started, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._up = up
        self._lifecycle = lifecycle

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT)
        for number in handled:
            loop.add_signal_handler(number, self.leave)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def leave(self) -> None:
        desk = self._up.desk
        patience = desk.settings.drain_seconds
        if self._lifecycle.draining:
            self.force_exit = True
            patience = 0.0
        self._lifecycle.draining = True
        self.should_exit = True
        self._up.jobs.leave()
        desk.room.running.engine.drain(patience)
        desk.room.tasks.reach.leave(patience)
        logger().info("draining")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                logger().info("ready", url=f"{self._up.desk.settings.scheme}://{shown}:{port}")


def run(settings: Settings, announce: Announce) -> None:
    """Until a signal, in a process of its own. Raises what `started` does, and OSError where the address is taken.

    A thread that hangs in the store cannot be called back, and Python would wait for it: the process goes without it.
    """
    asyncio.run(serve(settings, announce))
    hanging = [thread for thread in threading.enumerate() if not (thread.daemon or thread is threading.main_thread())]
    end = time.monotonic() + HANGING_SECONDS
    for thread in hanging:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in hanging):
        logger().warning("something that the store was asked is left behind")
        sys.stdout.flush()
        os._exit(0)


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
    return []


async def serve(settings: Settings, announce: Announce) -> None:
    """Until a signal. Raises as `run` does."""
    configure()
    _warn()
    share_one()
    disable_progress_bar()
    with bound(settings) as listening:
        secured = tls(settings)
        if secured is not None:
            _tell(secured)
        async with started(settings) as up:
            announce(settings, up)
            lifecycle = Lifecycle()
            with traced(up) as trace:
                config = configuration(build(up, lifecycle, trace), settings, secured)
                await Process(config, up, lifecycle).serve([listening])
    logger().info("stopped")


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


def configuration(app: ASGIApp, settings: Settings, secured: Tls | None = None) -> uvicorn.Config:
    """How uvicorn serves the application. No proxy's headers are believed: nothing here asks who the client is."""
    return uvicorn.Config(
        app,
        http=protocol(settings),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=None if secured is None else lambda *_: secured.context,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(settings.drain_seconds) + LAST_WORDS_SECONDS,
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
