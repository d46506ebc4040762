"""A client of a soak: one connection at a time, raw, so that it can go in the middle of anything.

Knows HTTP/1.1 as far as this server speaks it; says of each request what came of it, and judges by what its call says.
"""

import asyncio
import json
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.soak.calls import Call
from tests.soak.mix import Act, Leaving, shown

PATIENCE = 120.0
"""Seconds for an answer on a busy machine."""
MOST_WRONG = 50
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: close with RST."""
CODE = re.compile(rb'"error":\s?\{.*?"code":\s?"([a-z_]+)"', re.DOTALL)


@dataclass(slots=True)
class Heard:
    """What came of requests: how often each kind ended how; `wrong` are those that should not have ended so."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def end(self, kind: str, how: str) -> None:
        self.outcomes[f"{kind}: {how}"] += 1

    def amiss(self, call: Call, how: str) -> None:
        self.wrong.append(f"{how}: {shown(call)}")


class Client:
    """Opens its connection when it is needed, and again after it was closed."""

    def __init__(self, port: int, heard: Heard) -> None:
        self._port = port
        self._heard = heard
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def each(self, acts: Iterable[Act]) -> None:
        """Does what is left of `acts`, which others draw from as well, and closes."""
        for act in acts:
            try:
                async with asyncio.timeout(PATIENCE):
                    await (self._left(act, act.leaving) if act.leaving else self._asked(act))
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                how = f"unheard, {type(error).__name__}"
                self._heard.end(act.kind, how)
                self._heard.amiss(act.calls[0], how)
                self.close()
            if len(self._heard.wrong) > MOST_WRONG:
                break
        self.close()

    def close(self, *, reset: bool = False) -> None:
        if self._writer is None:
            return
        if reset:
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._writer.transport.abort() if reset else self._writer.close()
        self._reader = self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self._reader, self._writer

    async def _asked(self, act: Act) -> None:
        for call in act.calls:
            status, body, stays = await self._answer(call)
            code = CODE.search(body)
            self._heard.end(act.kind, f"{status} {code[1].decode()}" if code else str(status))
            if status not in call.right or (status == 200 and not _whole(body, code, call.codes)):
                self._heard.amiss(call, f"{status} {body[:300].decode('utf-8', 'replace')}")
            if not stays:
                self.close()

    async def _answer(self, call: Call) -> tuple[int, bytes, bool]:
        """Status, body, and whether the connection may be used again."""
        reader, writer = await self._open()
        writer.write(call.sent())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"\r\ntransfer-encoding: chunked" in head:
            body = b"".join([chunk async for chunk in _chunks(reader)])
        else:
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
        stays = b"\r\nconnection: close" not in head and status != 413  # what is refused unread would still be sent
        return status, body, stays

    async def _left(self, act: Act, leaving: Leaving) -> None:
        """The connection goes in the middle of the one call, or just after its end, if the answer was fast."""
        reader, writer = await self._open()
        data = act.calls[0].sent()
        writer.write(data[: len(data) // 2] if leaving.half else data)
        heard = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(leaving.seconds):
                while len(heard) < leaving.bytes and (more := await reader.read(leaving.bytes)):
                    heard += more
        self.close(reset=leaving.reset)
        if len(heard) < len(b"HTTP/1.1 200"):
            self._heard.end(act.kind, "unanswered")
            return
        status = heard.split(b" ", 2)[1].decode()
        self._heard.end(act.kind, status)
        if status not in {"200", "404"}:
            self._heard.amiss(act.calls[0], heard[:300].decode("utf-8", "replace"))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readline()
    await reader.readline()


def _whole(body: bytes, code: re.Match[bytes] | None, codes: frozenset[str]) -> bool:
    """Whether an answer or a stream has come to its end, without an error that should not stand in it."""
    if code is not None:
        return code[1].decode() in codes
    try:
        if not body.startswith(b"data: "):
            return bool(json.loads(body))
        last = body.rstrip().split(b"\n\n")[-1].removeprefix(b"data: ")
        return last == b"[DONE]" or bool(json.loads(last)["details"])
    except (KeyError, ValueError):
        return False
