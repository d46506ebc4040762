"""The sending half of a connection: who does not read is cut off, who still sends hears the last word.

Stands between uvicorn's protocol and asyncio's transport, with TLS or without. What is to be sent waits here, in
slices, so that how much of it was taken can be seen. Knows no HTTP.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

SLICE = 64 * 2**10
LEAST_RATE = 4 * 2**10
"""Bytes a second that a client must take of what waits for it, over `write_seconds`."""
LINGER_SECONDS, LINGER_BYTES = 2.0, 64 * 2**20
"""For what a client still sends after the last word. It is thrown away: an end of the connection at once would be a
reset, and a reset takes the last word out of the client's hands."""


class Outgoing(asyncio.Transport):
    """`unread`: whether the client is still sending something that nobody will read."""

    def __init__(
        self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float, unread: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._seconds = seconds
        self._unread = unread
        self._waiting: deque[memoryview] = deque()
        self._sent = 0
        self._sent_before = 0
        self._full = False
        self._closing = False
        self._watch: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._thrown_away = 0
        self._heard_all = False
        self.lingering = False

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        self._waiting.append(memoryview(data))
        self._pump()

    def full(self) -> None:
        """asyncio's buffer is: its client does not read."""
        self._full = True
        self._look_later()

    def empty(self) -> bool:
        """asyncio's buffer is; whether everything is in it that was to be sent."""
        self._full = False
        self._pump()
        return not (self._full or self._waiting)

    def _pump(self) -> None:
        while self._waiting and not self._full and not self._inner.is_closing():  # a failed write ends it at once
            head = self._waiting[0]
            if len(head) > SLICE:
                self._waiting[0] = head[SLICE:]
            else:
                self._waiting.popleft()
            self._sent += min(len(head), SLICE)
            self._inner.write(head[:SLICE])
        if not self._waiting and self._closing:
            self._finish()

    def close(self) -> None:
        """Once everything is sent."""
        if not self._closing:
            self._closing = True
            self._look_later()
            self._pump()

    def _finish(self) -> None:
        if self._heard_all or not self._unread():
            self._inner.close()
        elif not self.lingering:
            self.lingering = True
            self._patience = self._loop.call_later(LINGER_SECONDS, self._inner.close)
            self._inner.resume_reading()
            try:
                if self._inner.can_write_eof():
                    self._inner.write_eof()
            except OSError:  # the client has gone already
                self._inner.abort()

    def throw_away(self, count: int) -> None:
        """So many bytes that came too late."""
        self._thrown_away += count
        if self._thrown_away > LINGER_BYTES:
            self._inner.close()

    def _look_later(self) -> None:
        if self._watch is None:
            self._sent_before = self._gone()
            self._watch = self._loop.call_later(self._seconds, self._look)

    def _look(self) -> None:
        """Enough was taken since the last look, or nobody waits, or it is the end."""
        self._watch = None
        if not (self._full or self._waiting or self._closing):
            return
        if self._gone() - self._sent_before < LEAST_RATE * self._seconds:
            self.cut()
        else:
            self._look_later()

    def _gone(self) -> int:
        return self._sent - self._inner.get_write_buffer_size()

    def heard_all(self) -> bool:
        """Nothing more will come. True keeps asyncio from closing the connection while something waits here."""
        self._heard_all = True
        if self._waiting:
            self.close()
            return True
        self._closing = True
        self._look_later()
        return False

    def lost(self) -> None:
        self._closing = True
        self._waiting.clear()
        for timer in (self._watch, self._patience):
            if timer is not None:
                timer.cancel()

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
        return sum(map(len, self._waiting)) + self._inner.get_write_buffer_size()
