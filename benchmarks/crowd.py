"""A crowd of clients on loopback that costs the machine little: so many in flight, or so many a second whoever answers.

Knows bytes of HTTP/1.1 and clocks; no engine, no part. Connections are kept and used again.
"""

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from urllib.parse import urlsplit

MOST = 900
"""Connections: whoever finds none free is counted as turned away by the client itself."""
OK = 200


@dataclass(frozen=True, slots=True)
class Question:
    """One request as it is sent, and the tokens of its answer."""

    sent: bytes
    tokens: int

    @staticmethod
    def of(url: str, body: bytes, tokens: int, key: str | None = None) -> "Question":
        named = f"authorization: Bearer {key}\r\n" if key else ""
        head = f"POST /generate HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\ncontent-type: application/json\r\n{named}"
        return Question(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body, tokens)


@dataclass(slots=True)
class Outcome:
    """Of a crowd, in the `seconds` from `since` on: what was answered, in how many seconds each, and the tokens of what
    went well. What was answered before or after is not in it: so what runs at the edges is counted neither way.

    `patience`: the least and the most seconds that a refusal asked for; None where one did not say.
    """

    since: float
    seconds: float
    tokens: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    took: dict[int, list[float]] = field(default_factory=dict)
    patience: list[int | None] = field(default_factory=list)
    unsent: int = 0

    @staticmethod
    def after(warm: float, seconds: float) -> "Outcome":
        return Outcome(time.perf_counter() + warm, seconds)

    @property
    def over(self) -> bool:
        return time.perf_counter() >= self.since + self.seconds

    def add(self, status: int, head: bytes, took: float, tokens: int) -> None:
        if time.perf_counter() < self.since or self.over:
            return
        self.statuses[status] += 1
        self.took.setdefault(status, []).append(took)
        if status == OK:
            self.tokens += tokens
        else:
            self.patience.append(_retry_after(head))


class Connection(asyncio.Protocol):
    """One question at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._length: int | None = None
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the shape of a protocol
        self.transport = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_result((0, b""))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found or self._answered is None or self._answered.done():
            return
        if self._length is None:
            self._length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(rest) >= self._length:
            self._answered.set_result((int(head[9:12]), head))

    async def ask(self, question: Question) -> tuple[int, bytes]:
        """Status and head of the answer; 0 where the connection ended without one."""
        if self.transport is None:
            return 0, b""
        self._received, self._length = b"", None
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(question.sent)
        return await self._answered


class Crowd:
    """Connections to one server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: deque[Connection] = deque()
        self._open = 0

    async def closed_loop(
        self, questions: Sequence[Question], concurrency: int, seconds: float, warm: float = 0.0
    ) -> Outcome:
        """`concurrency` in flight, for `warm` seconds before it counts."""
        outcome, turns = Outcome.after(warm, seconds), itertools.count()

        async def client() -> None:
            while not outcome.over:
                await self._one(questions[next(turns) % len(questions)], outcome)

        clients = [asyncio.create_task(client()) for _ in range(concurrency)]
        await asyncio.wait(clients, timeout=warm + seconds)
        await _ended(clients)
        return outcome

    async def open_loop(self, questions: Sequence[Question], rate: float, seconds: float, warm: float = 0.0) -> Outcome:
        """`rate` a second whatever is answered, for `warm` seconds before it counts."""
        outcome, began, sent = Outcome.after(warm, seconds), time.perf_counter(), 0
        running: set[asyncio.Task[None]] = set()
        while not outcome.over:
            while sent < (time.perf_counter() - began) * rate:
                if self._idle or self._open < MOST:
                    task = asyncio.create_task(self._one(questions[sent % len(questions)], outcome))
                    running.add(task)
                    task.add_done_callback(running.discard)
                else:
                    outcome.unsent += 1
                sent += 1
            await asyncio.sleep(1 / rate)
        await _ended(running)
        return outcome

    def close(self) -> None:
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()

    async def _one(self, question: Question, outcome: Outcome) -> None:
        began = time.perf_counter()
        connection = await self._connection()
        whole = False
        try:
            status, head = await connection.ask(question)
            whole = status > 0 and b"connection: close" not in head.lower()
            outcome.add(status, head, time.perf_counter() - began, question.tokens)
        finally:
            self._give_back(connection, whole)

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                return connection
            self._open -= 1
        self._open += 1
        try:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        except BaseException:
            self._open -= 1
            raise
        return connection

    def _give_back(self, connection: Connection, whole: bool) -> None:
        if whole:
            self._idle.append(connection)
            return
        self._open -= 1
        if connection.transport is not None:
            connection.transport.abort()


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            raise found


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds: the 50th and 99th percentile, and the longest."""
    if len(seconds) < 2:
        return {}
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49] * 1000, "p99": cuts[98] * 1000, "max": max(seconds) * 1000}


def _retry_after(head: bytes) -> int | None:
    _, found, rest = head.lower().partition(b"\r\nretry-after: ")
    return int(rest.split(b"\r\n", 1)[0]) if found else None
