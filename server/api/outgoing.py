"""The sending half of a connection: who does not read is cut off, who still sends hears the last word.

Stands between uvicorn's protocol and asyncio's transport, with TLS or without. Knows no HTTP.
"""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from server.api.unsent import Unsent

LEAST_RATE = 4 * 2**10
"""Bytes a second that a client must take of what waits for it, over `write_seconds`."""
LINGER_SECONDS, LINGER_BYTES = 2.0, 64 * 2**20
"""For what a client still sends after the last word. It is thrown away: an end of the connection at once would be a
reset, and a reset takes the last word out of the client's hands."""
LAST_WORD_BYTES = 16 * 2**10
"""More than that is an answer."""
BYTES_ACKED = slice(120, 128)
"""`tcpi_bytes_acked` of Linux's struct tcp_info, as long as that is (linux/tcp.h)."""


class Outgoing(asyncio.Transport):
    """`unread`: whether the client is still sending something that nobody will read.

    `is_full`: more is to be sent than asyncio likes to hold.
    """

    def __init__(
        self,
        inner: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        unread: Callable[[], bool],
        unsent: Unsent,
    ) -> None:
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._seconds = seconds
        self._unread = unread
        self._unsent = unsent
        self._sent = 0
        self._taken_before = 0
        self._waited = 0.0
        self._since: float | None = None
        self.is_full = False
        self._closing = False
        self._watch: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._thrown_away = 0
        self._heard_all = False
        self.lingering = False

    def write(self, data: Any) -> None:
        if data and not self.is_closing():  # a failed write ends it at once
            self._sent += len(data)
            self._inner.write(data)

    def full(self) -> None:
        """asyncio's buffer is: its client does not read."""
        self.is_full = True
        self._look_later()
        self._unsent.hold(self)

    def empty(self) -> None:
        """asyncio's buffer is."""
        self.is_full = False
        self._unsent.release(self)
        if self._since is not None and not self._closing:
            self._waited += self._loop.time() - self._since
            self._since = None

    def close(self) -> None:
        """Once everything is sent."""
        if self._closing:
            return
        self._end()
        if self._heard_all or not self._unread():
            self._inner.close()
        else:
            self._linger()

    def _end(self) -> None:
        """Of what is sent. What the kernel still holds then, it holds as long as our own patience would."""
        self._closing = True
        self._look_later()
        option, connection = getattr(socket, "TCP_USER_TIMEOUT", None), self._inner.get_extra_info("socket")
        if option is not None and connection is not None:
            patience = self._seconds + self.waiting() / LEAST_RATE
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, option, round(patience * 1000))

    def _linger(self) -> None:
        self.lingering = True
        self._listen(on_its_way=self.waiting() > LAST_WORD_BYTES)
        self._inner.resume_reading()
        try:
            if self._inner.can_write_eof():
                self._inner.write_eof()
        except OSError:  # the client has gone already
            self._inner.abort()

    def _listen(self, *, on_its_way: bool) -> None:
        """For so long, and again where some of an answer was still to be taken: its client may go on sending."""
        self._patience = self._loop.call_later(LINGER_SECONDS, self._enough, on_its_way)

    def _enough(self, on_its_way: bool) -> None:
        if on_its_way and not self._inner.is_closing():
            self._listen(on_its_way=self.waiting() > 0)
        else:
            self._inner.close()

    def throw_away(self, count: int) -> None:
        """So many bytes that came too late."""
        self._thrown_away += count
        if self._thrown_away > LINGER_BYTES:
            self._inner.close()

    def _look_later(self) -> None:
        if self._since is None:
            self._since = self._loop.time()
        if self._watch is None:
            self._taken_before, self._waited, self._since = self.taken(), 0.0, self._loop.time()
            self._watch = self._loop.call_later(self._seconds, self._look)

    def _look(self) -> None:
        """Enough was taken in the time that something waited since the last look, or nothing does, or it is the end."""
        self._watch = None
        if self._since is None:
            return
        waited = self._waited + self._loop.time() - self._since
        if self.taken() - self._taken_before < LEAST_RATE * waited:
            self.cut()
        else:
            self._look_later()

    def waiting(self) -> int:
        """Bytes that were sent and not taken."""
        return self._sent - self.taken()

    def taken(self) -> int:
        """Bytes that the client's system has confirmed; elsewhere than on Linux those that ours was given.

        The kernel's buffer holds megabytes, and TLS encrypts ahead of it: what left us is not what arrived.
        """
        connection = self._inner.get_extra_info("socket")
        if sys.platform == "linux" and connection is not None:
            with contextlib.suppress(OSError):
                told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED.stop)
                if len(told) == BYTES_ACKED.stop:
                    return int.from_bytes(told[BYTES_ACKED], sys.byteorder)
        return self._sent - self._inner.get_write_buffer_size()

    def heard_all(self) -> None:
        """Nothing more will come: asyncio closes the connection once everything is sent."""
        self._heard_all = True
        self._end()

    def lost(self) -> None:
        self._closing = True
        self._unsent.release(self)
        for timer in (self._watch, self._patience):
            if timer is not None:
                timer.cancel()
        self._inner = _GONE  # TLS has a quarter of a megabyte for each, which else the collector would have to find

    def abort(self) -> None:
        self._closing = True
        self._inner.abort()

    def cut(self) -> None:
        """A reset: what is cut off must not look whole, and the kernel keeps nothing of it."""
        self._closing = True
        connection = self._inner.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._inner.abort()

    def is_closing(self) -> bool:
        return self._closing or self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._inner.get_write_buffer_size()


class _Gone(asyncio.Transport):
    """In the place of one that has ended."""

    def is_closing(self) -> bool:
        return True

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


_GONE = _Gone()
