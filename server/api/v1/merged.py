"""Several streams as one, and several results as a list; the first failure ends all. Knows nothing of what they say."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


async def merged(
    streams: Sequence[AsyncGenerator[T, None]], turns: asyncio.Semaphore
) -> AsyncGenerator[tuple[int, T], None]:
    """(number of the stream, what it gave), as it comes; as many at a time as `turns` lets."""
    arrived: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue()

    async def drain(number: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async with turns, aclosing(stream):
                async for one in stream:
                    arrived.put_nowait((number, one))
        except Exception as error:  # noqa: BLE001 - it is raised where the streams come together
            arrived.put_nowait(error)
        else:
            arrived.put_nowait(None)

    async with _ended(drain(number, stream) for number, stream in enumerate(streams)):
        left = len(streams)
        while left:
            one = await arrived.get()
            if isinstance(one, Exception):
                raise one
            if one is None:
                left -= 1
            else:
                yield one


async def gathered(works: Iterable[Callable[[], Awaitable[T]]], turns: asyncio.Semaphore) -> list[T]:
    """All results in order."""

    async def turn(work: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await work()

    async with _ended(turn(work) for work in works) as tasks:
        return list(await asyncio.gather(*tasks))


@asynccontextmanager
async def _ended(works: Iterable[Coroutine[Any, Any, T]]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """What still runs when it is left is cancelled, and waited for."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
