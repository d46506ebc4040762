"""The sending half of a connection, over a real transport."""

import asyncio
import socket

import pytest

from server.api.outgoing import Outgoing
from server.api.unsent import Unsent


async def test_a_client_that_is_gone_is_sent_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    """The first piece fails; asyncio warns of the fifth that is written all the same."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    outgoing = Outgoing(transport, loop, 1.0, lambda: False, Unsent(2**20))
    theirs.close()
    for _ in range(20):
        outgoing.write(bytes(2**16))
    assert outgoing.is_closing()
    assert not caplog.records
    outgoing.lost()
