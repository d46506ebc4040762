"""A stream of events against an ASGI server played by hand: one that takes nothing, one that leaves."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message

from server.api.sse import EventStream


class Source:
    """Events without end, which know whether they were closed."""

    def __init__(self) -> None:
        self.closed = False

    async def events(self) -> AsyncGenerator[dict[str, int], None]:
        number = 0
        try:
            while True:
                number += 1
                yield {"n": number}
        finally:
            self.closed = True


async def never() -> Message:
    return await asyncio.Future[Message]()


async def test_who_takes_nothing_is_waited_for_until_it_is_cut_off() -> None:
    """A window that stays full holds the stream; with the connection's end what fed it is closed."""
    source, full, cut = Source(), asyncio.Event(), asyncio.Event()
    taken: list[Message] = []

    async def send(message: Message) -> None:
        taken.append(message)
        if len(taken) > 3:
            full.set()
            await never()

    async def receive() -> Message:
        await cut.wait()
        return {"type": "http.disconnect"}

    events = source.events()
    first = await anext(events)
    streaming = asyncio.ensure_future(EventStream(first, events)({"type": "http"}, receive, send))
    await asyncio.wait_for(full.wait(), 5)
    assert not streaming.done()
    cut.set()
    await asyncio.wait_for(streaming, 5)
    assert source.closed
    assert [message["type"] for message in taken] == ["http.response.start", *["http.response.body"] * 3]
    assert taken[1]["body"] == b'data: {"n":1}\n\n'
    assert not any(message.get("more_body") is False for message in taken)


async def test_who_leaves_ends_the_stream() -> None:
    """A disconnect closes what fed the stream, though its next event never comes."""
    closed = asyncio.Event()

    async def silent() -> AsyncGenerator[dict[str, int], None]:
        try:
            yield {"n": 1}
            await never()
        finally:
            closed.set()

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        assert message["type"] in {"http.response.start", "http.response.body"}

    events = silent()
    first = await anext(events)
    await asyncio.wait_for(EventStream(first, events)({"type": "http"}, leave, send), 5)
    assert closed.is_set()
