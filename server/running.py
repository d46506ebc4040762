"""Requests in the engine, seen from the event loop: submitted, heard from, cancelled when their caller leaves.

Knows events and no text. The engine puts events from its own thread; one wake-up of the loop carries a whole step's.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from server.engine.admission import Place
from server.engine.engine import Engine
from server.engine.request import (
    Closed,
    Event,
    Failed,
    Finished,
    OwnerFull,
    PromptEvent,
    QueueFull,
    Request,
    TokenEvent,
)
from server.errors import Broken, Fault, Late, TooMany, Unavailable
from server.place import leave_place
from server.quarantine import Quarantine, Trial


class Heard(NamedTuple):
    """An event and the number of the request that it belongs to."""

    request: int
    event: Event


class Mailbox:
    """Carries events from the engine's thread into the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[tuple[asyncio.Queue[Heard], Heard]] = deque()
        self._woken = False

    def put(self, queue: "asyncio.Queue[Heard]", heard: Heard) -> None:
        self._arrived.append((queue, heard))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # first: what arrives from here on wakes the loop again
        while self._arrived:
            queue, heard = self._arrived.popleft()
            queue.put_nowait(heard)


class MailSink:
    """The engine's `Sink` for one of the requests of a caller."""

    def __init__(self, mailbox: Mailbox, queue: "asyncio.Queue[Heard]", index: int) -> None:
        self._mailbox = mailbox
        self._queue = queue
        self._index = index

    def put(self, event: Event, /) -> None:
        self._mailbox.put(self._queue, Heard(self._index, event))


class Running:
    """`engine` and the loop it reports to. What it says of a soft prompt's numbers `quarantine` is told."""

    def __init__(self, engine: Engine, quarantine: Quarantine) -> None:
        self.engine = engine
        self._quarantine = quarantine
        self.ended = asyncio.wrap_future(engine.pulse.ended)
        """Done when the engine's thread has come to its end, asked for or not."""
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._hearing: set[asyncio.Queue[Heard]] = set()

    @property
    def busy(self) -> bool:
        """Whether an engine that lives has something to do."""
        return self.engine.healthy and not self.ended.done() and not self.engine.idle(0)

    def leave(self) -> None:
        """Whoever still waits is told that the server leaves, in however long a pass the engine is."""
        for queue in self._hearing:
            queue.put_nowait(Heard(0, Failed("draining", "the server is shutting down")))

    @asynccontextmanager
    async def events(self, requests: Sequence[Request], *, canary: bool = False) -> AsyncIterator[AsyncIterator[Heard]]:
        """Submits all; iterates until each has had its terminal event. Whoever leaves earlier cancels the rest.

        All are of one soft prompt. Raises TooMany or Unavailable when there is no room to wait, Unavailable too when
        the server drains or the soft prompt is in quarantine (a `canary` is run there too), and the fault of a request
        that failed.
        """
        queue: asyncio.Queue[Heard] = asyncio.Queue()
        open_ids = {request.id for request in requests}
        sinks = [MailSink(self._mailbox, queue, index) for index in range(len(requests))]
        prompt = requests[0].prompt
        with self._quarantine.trial(None if prompt is None else prompt.digest, anyway=canary) as trial:
            leave_place()
            with _refusals(self.engine, requests[0].owner):
                self.engine.submit_all(list(zip(requests, sinks, strict=True)))
            self._hearing.add(queue)
            try:
                yield self._hear(queue, requests, open_ids, trial)
            finally:
                self._hearing.discard(queue)
                for request_id in open_ids:
                    self.engine.cancel(request_id)

    def check_room(self, caller: Hashable, task: str | None = None) -> None:
        """Raises what `events` would, whatever `caller` asks, of this task or of any."""
        with _refusals(self.engine, caller):
            self.engine.check_room(caller, task)

    def at_once(self) -> Place | None:
        """Of whoever comes while there are slots for it and for all who are on their way."""
        return self.engine.admission.at_once(self.engine.slots.free)

    def expect(self, caller: Hashable, task: str) -> Place:
        """As `check_room`, of an engine that is not closed, with those who passed here and are still on their way."""
        with _refusals(self.engine, caller):
            return self.engine.admission.expect(caller, task)

    async def _hear(
        self, queue: "asyncio.Queue[Heard]", requests: Sequence[Request], open_ids: set[object], trial: Trial
    ) -> AsyncIterator[Heard]:
        while open_ids:
            heard = await queue.get()
            if isinstance(heard.event, Failed):
                open_ids.discard(requests[heard.request].id)
                trial.failed |= heard.event.code == "non_finite"
                raise _fault_of(heard.event)
            trial.ran |= not isinstance(heard.event, Finished) or heard.event.reason != "cancelled"
            if not isinstance(heard.event, (TokenEvent, PromptEvent)):
                open_ids.discard(requests[heard.request].id)
            yield heard


@contextmanager
def _refusals(engine: Engine, caller: Hashable) -> Iterator[None]:
    """What the engine says to a new request, in the words of the client."""
    try:
        yield
    except QueueFull as full:
        raise _busy(full, caller) from None
    except Closed:
        if engine.healthy:
            raise Unavailable("draining", "the server is shutting down") from None
        raise Unavailable("engine_failed", "the engine has stopped") from None


def _busy(full: QueueFull, caller: Hashable) -> Fault:
    """Who has no key may be anybody: to all of them together the server is full."""
    fault: Fault = Unavailable("queue_full", "too many requests are waiting")
    if isinstance(full, OwnerFull) and caller is not None:
        fault = TooMany("too_many_requests", "too many requests of this key, or of it for this task, are waiting")
    fault.headers["Retry-After"] = str(full.seconds)
    return fault


def _fault_of(failed: Failed) -> Fault:
    told = _FAULTS.get(failed.code)
    if told is not None:
        return told()
    return Broken("internal", "the engine failed; the request id finds it in the server's log")


_FAULTS: Mapping[str, Callable[[], Fault]] = {
    "timeout": lambda: Late("timeout", "timeout_ms has passed", "timeout_ms"),
    "queue_timeout": lambda: Unavailable("queue_timeout", "the request waited for too long before its turn came"),
    "non_finite": lambda: Unavailable("non_finite_output", "the forward pass gave non-finite logits for this request"),
    "draining": lambda: Unavailable("draining", "the server is shutting down"),
    "out_of_memory": lambda: Unavailable("out_of_memory", "there is no memory to run this request in, for now"),
    "engine_failed": lambda: Unavailable("engine_failed", "the engine has stopped"),
}
"""What the engine says, as the client is told."""
