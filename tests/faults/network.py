"""A bad network between a client and a server: slow, losing, cut; and clients that leave by FIN or by RST.

Knows bytes on connections, no HTTP. What is lost of TCP comes late, as it is sent again, or never: so a piece waits as
long as a retransmission takes, and a cut connection ends in RST on both sides.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from tests.server.site import PATIENCE, connect

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: close with RST."""


@dataclass(slots=True)
class Network:
    """Forwards to `port`, `piece` bytes at a time.

    `lost`: share of pieces that come after `again` seconds; `rate`: bytes a second of each way.

    `cut`: share of connections that break after so many bytes as `Random(seed)` draws; `cuts` counts them.
    """

    port: int
    lost: float = 0.0
    again: float = 0.2
    rate: float = 125_000.0
    cut: float = 0.0
    piece: int = 1460
    seed: int = 1
    cuts: int = 0
    url: str = ""
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def running(self) -> Iterator["Network"]:
        """In a thread of its own."""
        ready = threading.Event()
        loop = asyncio.new_event_loop()

        def main() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve(ready))

        thread = threading.Thread(target=main, name="network")
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            yield self
        finally:
            loop.call_soon_threadsafe(self._over.set)
            thread.join(PATIENCE)

    async def _serve(self, ready: threading.Event) -> None:
        draw = Random(self.seed)
        server = await asyncio.start_server(lambda r, w: self._carry(r, w, draw), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await self._over.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: Random) -> None:
        """One connection, both ways, until either side ends it, it is cut, or the network is over."""
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return await leave(writer, reset=True)
        most = draw.randint(1, 6000) if draw.random() < self.cut else None
        ways = [asyncio.create_task(self._way(*way, draw, most)) for way in ((reader, back), (there, writer))]
        broken = True
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            broken = any(way.result() for way in done)
        except OSError:
            pass
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await asyncio.gather(leave(back, reset=broken), leave(writer, reset=broken))
        self.cuts += broken
        return None

    async def _way(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: Random, most: int | None
    ) -> bool:
        """True where it was cut."""
        carried = 0
        while piece := await reader.read(self.piece):
            late = self.again if draw.random() < self.lost else 0.0
            await self._pause(len(piece) / self.rate + late)
            carried += len(piece)
            if most is not None and carried > most:
                return True
            writer.write(piece)
            await writer.drain()
        return False

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass


async def leave(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Ends a connection, at the latest when this is cancelled."""
    try:
        if reset and (found := writer.get_extra_info("socket")) is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            writer.transport.abort()
        else:
            writer.close()
        await writer.wait_closed()
    except OSError:
        pass
    finally:
        writer.transport.abort()


@contextmanager
def leaving(url: str, *, reset: bool) -> Iterator[socket.socket]:
    """A connection that ends with FIN, or with RST."""
    with connect(url) as connection:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        yield connection
