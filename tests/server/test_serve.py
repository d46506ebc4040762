"""The socket that the process listens on."""

import asyncio
import socket

from server.config import Settings
from server.serve import bound


async def test_an_answer_is_not_held_back_by_the_kernel() -> None:
    """Connections have TCP_NODELAY: without it a body waits some 40 ms for the acknowledgement of its headers."""
    accepted: asyncio.Queue[int] = asyncio.Queue()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        accepted.put_nowait(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with bound(Settings(port=0, store="memory://")) as listening:
        async with await asyncio.start_server(note, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            assert await accepted.get() == 1
            writer.close()
            await writer.wait_closed()
