"""The socket that the process listens on, and what it settles once it has started."""

import asyncio
import gc
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from server.config import Settings
from server.heap import THRESHOLDS
from server.serve import SWITCH_SECONDS, bound
from server.telemetry import logger
from tests.e2e.process import Process
from tests.server.site import until


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


def telling() -> None:
    """SIGUSR1: how often the collector looks, at how little, and for how long a thread keeps the interpreter."""

    imported = gc.get_freeze_count()

    def tell() -> None:
        logger().info("told", told=[*gc.get_threshold(), gc.get_freeze_count() - imported, sys.getswitchinterval()])

    # in a thread: what the signal interrupts may be writing a line itself
    signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=tell).start())


def test_what_was_there_at_the_start_is_never_collected_again(base_folder: Path) -> None:
    """Neither base nor imports; and no thread keeps the loop waiting as long as Python would let it."""
    process = Process("--model", str(base_folder), "--store", "memory://", under=telling)
    try:
        with process.wait_until_ready():
            process.send(signal.SIGUSR1)
            until(lambda: any("told" in line for line in process.log), "it has told")
    finally:
        assert process.end() == 0
    ((*thresholds, frozen, switch),) = [line["told"] for line in process.log if "told" in line]
    assert thresholds == list(THRESHOLDS)
    assert frozen > 1000
    assert switch == pytest.approx(SWITCH_SECONDS)
