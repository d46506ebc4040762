"""The client of asynchronous programs. Sends calls over one pool of connections; what they say is said elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

import httpx

from softprompt_client import asking, changing
from softprompt_client.answers import StreamEvent, Task, TaskPage
from softprompt_client.call import UNBOUNDED, Call, wait_before
from softprompt_client.errors import unheard
from softprompt_client.events import Events
from softprompt_client.methods import as_method
from softprompt_client.settings import RETRIES, TIMEOUT, settings

P = ParamSpec("P")
T = TypeVar("T")


class AsyncSender(Protocol):
    """What has connections."""

    async def send(self, call: Call[T]) -> T: ...

    def stream(self, call: Call[StreamEvent]) -> AsyncGenerator[StreamEvent, None]: ...


def _sent(build: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncSender, P], Awaitable[T]]:
    async def method(self: AsyncSender, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    as_method(build, method)
    return method


def _streamed(
    build: Callable[P, Call[StreamEvent]],
) -> Callable[Concatenate[AsyncSender, P], AsyncGenerator[StreamEvent, None]]:
    def method(self: AsyncSender, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[StreamEvent, None]:
        return self.stream(build(*args, **kwargs))

    as_method(build, method)
    return method


def _paged(build: Callable[P, Call[TaskPage]]) -> Callable[Concatenate[AsyncSender, P], AsyncIterator[Task]]:
    async def method(self: AsyncSender, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Task]:
        following: Call[TaskPage] | None = build(*args, **kwargs)
        while following is not None:
            page = await self.send(following)
            for task in page["data"]:
                yield task
            following = changing.next_page(following, page)

    as_method(build, method)
    return method


class AsyncTasks:
    """`client.tasks`, with the names of the client that waits."""

    def __init__(self, client: AsyncSender) -> None:
        self.send = client.send
        self.stream = client.stream

    list = _paged(changing.list_tasks)
    get = _sent(changing.get)
    versions = _sent(changing.versions)
    version = _sent(changing.version)
    prompt = _sent(changing.prompt)
    nearest = _sent(changing.nearest)
    publish = _sent(changing.publish)
    patch = _sent(changing.patch)
    rollback = _sent(changing.rollback)
    delete = _sent(changing.delete)


class AsyncClient:
    """`Client` with `await`: the same names and arguments."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = TIMEOUT, retries: int = RETRIES
    ) -> None:
        chosen = settings(url, key)
        self.url = chosen.url
        self._retries = retries
        self._http = httpx.AsyncClient(base_url=chosen.url, headers=chosen.headers, timeout=timeout, limits=UNBOUNDED)
        self.tasks = AsyncTasks(self)

    generate = _sent(asking.generate)
    generate_many = _sent(asking.generate_many)
    generate_stream = _streamed(asking.generate_stream)
    classify = _sent(asking.classify)
    classify_many = _sent(asking.classify_many)
    render = _sent(asking.render)
    generate_request = _sent(asking.generate_request)
    stream_request = _streamed(asking.stream_request)
    render_request = _sent(asking.render_request)
    info = _sent(asking.info)
    ready = _sent(asking.ready)

    async def send(self, call: Call[T]) -> T:
        """The answer of any call."""
        return call.read(await self._answered(call))

    async def stream(self, call: Call[StreamEvent]) -> AsyncGenerator[StreamEvent, None]:
        """Events as they come. `contextlib.aclosing` around it closes the connection when it is left early."""
        async with aclosing(await self._answered(call, stream=True)) as response:
            events = Events(response)
            try:
                async for piece in response.aiter_bytes():
                    for event in events.feed(piece):
                        yield event
            except httpx.RequestError as error:
                raise unheard(error, retryable=False) from error
            events.end()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _answered(self, call: Call[Any], *, stream: bool = False) -> httpx.Response:
        tried = 0
        while (
            not isinstance(outcome := await self._tried(call, stream=stream), httpx.Response) or not outcome.is_success
        ):
            await asyncio.sleep(wait_before(call, outcome, tried, self._retries))
            tried += 1
        return outcome

    async def _tried(self, call: Call[Any], *, stream: bool) -> httpx.Response | httpx.RequestError:
        try:
            response = await self._http.send(call.request(self._http), stream=stream)
            if stream and not response.is_success:
                async with aclosing(response):
                    await response.aread()
        except httpx.RequestError as error:
            return error
        return response
