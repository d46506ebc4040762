"""The client that waits. Sends calls over one pool of connections; what is sent and read is said elsewhere."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
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


class Sender(Protocol):
    """What has connections."""

    def send(self, call: Call[T]) -> T: ...

    def stream(self, call: Call[StreamEvent]) -> Generator[StreamEvent, None, None]: ...


def _sent(build: Callable[P, Call[T]]) -> Callable[Concatenate[Sender, P], T]:
    def method(self: Sender, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    as_method(build, method)
    return method


def _streamed(
    build: Callable[P, Call[StreamEvent]],
) -> Callable[Concatenate[Sender, P], Generator[StreamEvent, None, None]]:
    def method(self: Sender, /, *args: P.args, **kwargs: P.kwargs) -> Generator[StreamEvent, None, None]:
        return self.stream(build(*args, **kwargs))

    as_method(build, method)
    return method


def _paged(build: Callable[P, Call[TaskPage]]) -> Callable[Concatenate[Sender, P], Iterator[Task]]:
    def method(self: Sender, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Task]:
        following: Call[TaskPage] | None = build(*args, **kwargs)
        while following is not None:
            page = self.send(following)
            yield from page["data"]
            following = changing.next_page(following, page)

    as_method(build, method)
    return method


class Tasks:
    """`client.tasks`: what is published, and how it changes."""

    def __init__(self, client: Sender) -> None:
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


class Client:
    """Of one server; threads may share it. Left out: SOFTPROMPT_URL, SOFTPROMPT_ADMIN_KEY or SOFTPROMPT_API_KEY.

    `timeout`: seconds without a word from the server; `retries`: how often a request is sent again where that is safe
    (docs/client.md). Every method raises SoftpromptError. Raises ValueError for an address or a key that is none.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = TIMEOUT, retries: int = RETRIES
    ) -> None:
        chosen = settings(url, key)
        self.url = chosen.url
        self._retries = retries
        self._http = httpx.Client(base_url=chosen.url, headers=chosen.headers, timeout=timeout, limits=UNBOUNDED)
        self.tasks = Tasks(self)

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

    def send(self, call: Call[T]) -> T:
        """The answer of any call."""
        return call.read(self._answered(call))

    def stream(self, call: Call[StreamEvent]) -> Generator[StreamEvent, None, None]:
        """Events as they come. An iterator that is left early closes the connection, and the server stops."""
        with closing(self._answered(call, stream=True)) as response:
            events = Events(response)
            try:
                for piece in response.iter_bytes():
                    yield from events.feed(piece)
            except httpx.RequestError as error:
                raise unheard(error, retryable=False) from error
            events.end()

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answered(self, call: Call[Any], *, stream: bool = False) -> httpx.Response:
        tried = 0
        while not isinstance(outcome := self._tried(call, stream=stream), httpx.Response) or not outcome.is_success:
            time.sleep(wait_before(call, outcome, tried, self._retries))
            tried += 1
        return outcome

    def _tried(self, call: Call[Any], *, stream: bool) -> httpx.Response | httpx.RequestError:
        try:
            response = self._http.send(call.request(self._http), stream=stream)
            if stream and not response.is_success:
                with closing(response):
                    response.read()
        except httpx.RequestError as error:
            return error
        return response
