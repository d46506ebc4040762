"""Five hundred clients who say or take next to nothing, and beside them a few who ask as one should.

A real `softprompt serve` on loopback, of either HTTP parser. The slow ones are, in turn: silent, a head that comes a
byte a second, a body that does, and a large file that nobody reads. Who is cut off comes back, so that there are always
as many. The clients share the machine with the server.
"""

import argparse
import asyncio
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.crowd import OK, Crowd, Question, spread
from benchmarks.order import Launch, Order
from benchmarks.report import Chart, charted, gathered
from benchmarks.serving import running
from benchmarks.workload import workload
from server.heap import settle

REPEATS = 1
PARSERS = ("httptools", "h11")
FEW, TOKENS = 4, 8
HEAD = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = HEAD + b"Content-Length: 1000\r\n\r\n{"
READER = b"GET /static/vendor/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
SAID = (b"", HEAD, BODY, READER)
TRICKLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`crowd`: slow ones. `seconds` of each phase, after a third of that which does not count.

    `embedded`: of that base, of whose requests HTTP is a larger part; else of the one that tests measure.
    """

    crowd: int
    seconds: float
    parser: str
    embedded: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crowd", type=int, default=500, help="slow ones")
    parser.add_argument("--seconds", type=float, default=30.0, help="with them, and without")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """A server a parser."""
    crowd, seconds = (20, 0.9) if given.tiny else (given.crowd, given.seconds)
    size = workload(tiny=given.tiny)
    return [
        Launch(name, Order.of(given, size, Plan(crowd, seconds, name, not given.tiny)).to_json()) for name in PARSERS
    ]


def measure(order: Order) -> dict[str, Any]:
    """The same few clients, alone and beside the slow ones; somebody asks for /livez all the while."""
    settle()  # the clients' own pauses would be taken for the server's
    plan = Plan(**order.plan)
    base = () if plan.embedded else ("--model", order.checkpoint)
    options = ("--port", "0", "--store", "memory://", "--threads", str(order.threads), *base)
    with running(*options, SOFTPROMPT_HTTP_PARSER=plan.parser, SOFTPROMPT_JOBS="") as served:
        return {**asyncio.run(_phases(served.url, plan)), "parser": plan.parser}


async def _phases(url: str, plan: Plan) -> dict[str, Any]:
    address = urlsplit(url)
    place = (address.hostname or "127.0.0.1", address.port or 80)
    slow = Slow(place, plan.crowd)
    with closing(Crowd(url)) as asking, closing(Crowd(url)) as probing:
        alone = await _phase(url, asking, probing, plan.seconds)
        with slow.there():
            beside = await _phase(url, asking, probing, plan.seconds)
    return {"alone": alone, "beside": beside, "crowd": plan.crowd, "cut off": slow.cut}


async def _phase(url: str, asking: Crowd, probing: Crowd, seconds: float) -> dict[str, Any]:
    body = {"inputs": "play some jazz", "parameters": {"max_new_tokens": TOKENS, "ignore_eos": True}}
    good = Question.of(url, json.dumps(body).encode(), TOKENS)
    probe = Question(f"GET /livez HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\n\r\n".encode(), 0)
    answered, probed = await asyncio.gather(
        asking.closed_loop([good], FEW, seconds, seconds / 3), probing.closed_loop([probe], 1, seconds, seconds / 3)
    )
    return {
        "generate": spread(answered.took.get(OK, [])),
        "livez": spread(probed.took.get(OK, [])),
        "statuses": {str(status): count for status, count in sorted((answered.statuses + probed.statuses).items())},
    }


class Slow:
    """So many connections to `place`. `cut`: how often one was ended by the server, and replaced."""

    def __init__(self, place: tuple[str, int], count: int) -> None:
        self._place = place
        self._count = count
        self._open: dict[int, socket.socket] = {}
        self.cut = 0

    @contextmanager
    def there(self) -> Iterator[None]:
        """As long as the loop runs inside."""
        tending = asyncio.ensure_future(self._tend())
        try:
            yield
        finally:
            tending.cancel()
            for connection in self._open.values():
                connection.close()

    async def _tend(self) -> None:
        while True:
            for number in range(self._count):
                connection = self._open.get(number)
                if connection is not None and _ended(connection, SAID[number % len(SAID)]):
                    connection.close()
                    del self._open[number]
                    self.cut += 1
                if number not in self._open:
                    self._open[number] = await self._come(SAID[number % len(SAID)])
                await asyncio.sleep(TRICKLE_SECONDS / self._count)

    async def _come(self, said: bytes) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # it is found ended the next time
            await loop.sock_connect(connection, self._place)
            await loop.sock_sendall(connection, said)
        return connection


def _ended(connection: socket.socket, said: bytes) -> bool:
    """Whether the server has answered or closed it. Says one more byte where it says anything."""
    try:
        if said == READER:
            return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        if said:
            connection.send(b"a")
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """The good ones' answers and /livez, each beside the slow ones over alone."""
    rows = {"alone": "alone", "beside": f"beside {runs[0]['crowd']} slow ones"}

    def chart(what: str, quantity: str) -> Chart:
        found = gathered(
            (f"{run['parser']}, {label}", at, value)
            for run in runs
            for phase, label in rows.items()
            for at, value in run[phase][what].items()
        )
        return charted(
            quantity,
            "of all answers",
            found,
            best=min,
            ratio="over alone",
            reference=lambda row, column: (f"{row.partition(',')[0]}, {rows['alone']}", column),
        )

    return [
        chart("generate", f"milliseconds to an answer of {TOKENS} tokens"),
        chart("livez", "milliseconds to /livez"),
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Who was answered, and how many of the slow ones were ended."""
    return {
        "statuses": {run["parser"]: {phase: run[phase]["statuses"] for phase in ("alone", "beside")} for run in runs},
        "slow ones ended by the server": {run["parser"]: run["cut off"] for run in runs},
        "cores": os.cpu_count(),
    }
