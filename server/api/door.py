"""Where connections come in: so many at once, the idle ones making room, and none lost for want of a descriptor.

Stands in for asyncio's server, which counts nothing, holds what is silent in a handshake for a minute, and at the limit
of descriptors logs a line for every connection that waits. Knows sockets and TLS; what is said on them is the
protocol's.
"""

import asyncio
import contextlib
import resource
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Protocol, cast

from server.api.idle import Idle, Rank
from server.api.unsent import Unsent
from server.config import Settings
from server.telemetry import logger

MOST = 10_000
"""Connections, where neither the operator nor the system sets fewer."""
OWN_FILES = 128
"""Descriptors for what is no connection: the store, jobs, a newcomer that is told that there is no room."""
TOLD_AT_ONCE = 16
"""Newcomers that are told so; more of them at once are closed without a word."""
AT_ONCE = 32
"""Accepted in one turn of the loop; looked at, for one of them to make room."""
AGAIN_SECONDS = 1.0
UNSENT_BYTES = 128 * 2**10
"""Of a connection, in the kernel; by default it takes megabytes, and whoever reads nothing is found out late."""
TLS_BYTES = 64 * 2**10
"""That are read at once. asyncio, which offers no setting, holds four times as much for each connection."""
NEVER_SECONDS = 86_400.0
"""For TLS to send the rest and take its leave: what is left then is dropped. `Outgoing` sees who takes nothing."""
LINE_SECONDS = 60.0
"""Between two lines of log that say the same."""


class Guest(Hashable, Protocol):
    """The protocol of one connection, as far as the door goes. `surplus`: it is to be told that there is no room."""

    door: "Door"
    surplus: bool

    def leave(self) -> bool:
        """Ends at once; False where the connection has not begun."""


def most(settings: Settings) -> int:
    """How many connections there may be. Raises the process's limit on descriptors, as far as it may, to have them."""
    wanted = settings.max_connections or MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < files:
        raised = files if hard == resource.RLIM_INFINITY else min(files, hard)
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit that they do not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - OWN_FILES))


class Door:
    """One listening socket. `guest` makes the protocol of a connection."""

    def __init__(
        self,
        listening: socket.socket,
        guest: Callable[[], asyncio.Protocol],
        settings: Settings,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.idle: Idle[Guest] = Idle()
        self.unsent = Unsent(settings.answers_budget)
        self._listening = listening
        self._guest = guest
        self._settings = settings
        self._tls = tls
        self._most = most(settings)
        if tls is not None:
            sslproto.SSLProtocol.max_size = TLS_BYTES
        self._inside: dict[Guest, socket.socket] = {}
        self._entering: dict[Guest, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._told = -LINE_SECONDS
        self._open = False

    def open(self, backlog: int) -> None:
        self._listening.setblocking(False)
        self._listening.listen(backlog)
        self._open = True
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def close(self) -> None:
        """Nobody comes in any more; whoever is in a handshake is sent away."""
        self._open = False
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listening.fileno())
        for entering in self._entering.values():
            entering.cancel()

    def left(self, guest: Guest) -> None:
        """A connection has ended."""
        self.idle.take(guest)
        self._inside.pop(guest, None)
        if self._again is not None:
            self._resume()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                came, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            self._take_in(came)

    def _take_in(self, came: socket.socket) -> None:
        self._bound(came)
        surplus = len(self._inside) >= self._most and not self._make_room()
        if surplus and len(self._inside) >= self._most + TOLD_AT_ONCE:
            came.close()
            return
        protocol = self._guest()
        guest = cast("Guest", protocol)
        guest.door, guest.surplus = self, surplus
        self._inside[guest] = came
        if not surplus:
            self.idle.put(guest, Rank.SILENT)
        entering = self._loop.create_task(self._enter(protocol, guest, came))
        self._entering[guest] = entering
        entering.add_done_callback(lambda _: self._entering.pop(guest, None))

    def _bound(self, came: socket.socket) -> None:
        """What the kernel holds for a client that does not read. For how long, `Outgoing` says: given a timeout, the
        kernel cuts off who reads slowly in small pieces."""
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            with contextlib.suppress(OSError):
                came.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)

    def _make_room(self) -> bool:
        """Whether somebody who was idle has left."""
        looked_at = islice(self.idle.in_turn(), AT_ONCE)
        longest = next((guest for guest in looked_at if self._makes_room(guest)), None)
        if longest is None:
            return False
        self.idle.take(longest)
        del self._inside[longest]
        if not longest.leave() and longest in self._entering:
            self._entering[longest].cancel()
        return True

    def _makes_room(self, guest: Guest) -> bool:
        """Not who has spoken and was not read yet; to go on with what was begun keeps no place."""
        came = self._inside.get(guest)  # over TLS, one that was sent away may be heard once more
        if came is None:
            return False
        if self.idle.rank(guest) is Rank.BEGUN:
            return True
        try:
            return not came.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return True

    async def _enter(self, protocol: asyncio.Protocol, guest: Guest, came: socket.socket) -> None:
        limit = None if self._tls is None else self._settings.receive_seconds
        end = None if self._tls is None else NEVER_SECONDS
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, came, ssl=self._tls, ssl_handshake_timeout=limit, ssl_shutdown_timeout=end
            )
        except (OSError, asyncio.CancelledError):  # no handshake, or no time for it: asyncio closes the socket
            self.left(guest)

    def _wait(self, error: OSError) -> None:
        """The system has no descriptor or no memory for a connection: until one ends, or for a second."""
        if self._loop.time() - self._told >= LINE_SECONDS:
            self._told = self._loop.time()
            logger().warning("connections wait: the system gives no more", error=error.strerror)
        self._loop.remove_reader(self._listening.fileno())
        self._again = self._loop.call_later(AGAIN_SECONDS, self._resume)
        self._make_room()

    def _resume(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._open:
            self._loop.add_reader(self._listening.fileno(), self._accept)
