"""`softprompt serve` as a user starts it, on loopback, and clients that speak HTTP to it and count tokens themselves.

The process is known by its output and its socket alone. Knows the HTTP contract; no engine.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from benchmarks.order import ROOT, Order

CONSOLE_SCRIPT = "from cli.main import app; app()"
"""What the installed command runs; of this checkout, whatever is installed."""
T = TypeVar("T")
SECONDS = 600.0
GRACE = 60.0
EVENT = b"data: "
TOKEN = b'"token":'
"""Of a token's event: inside of a text its quotes would be escaped."""


@dataclass(frozen=True, slots=True)
class Served:
    """`started`: when the process was; `ready`: when it said that it listens. Seconds of `time.perf_counter()`."""

    url: str
    pid: int
    started: float
    ready: float


@contextmanager
def serving(order: Order, store: str, jobs: str = "") -> Iterator[Served]:
    """A ready server on a free port of loopback, ended with SIGTERM, with the settings that the library has elsewhere.

    Without a folder for jobs it learns nothing.

    Raises RuntimeError when it does not come up.
    """
    sizes = ["--threads", str(order.threads), "--max-total-tokens", str(order.workload.whole), "--text-budget", "0"]
    options = ["--model", order.checkpoint, "--store", store, "--port", "0", "--device", "cpu", "--dtype", "bfloat16"]
    with running(*options, *sizes, SOFTPROMPT_JOBS=jobs) as served:
        yield served


@contextmanager
def running(*options: str, **variables: str) -> Iterator[Served]:
    """The command with these options and, of ours, no other variables of the environment, until it is not wanted.

    Raises RuntimeError when it does not come up.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SOFTPROMPT_")}
    started = time.perf_counter()
    ready: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with begun(["serve", *options], {**environment, **variables}) as process:
        reader = threading.Thread(target=_read, args=(process.stderr, ready))
        reader.start()
        try:
            url = ready.get(timeout=SECONDS)
            if url is None:
                raise RuntimeError("the server has ended before it was ready: its last lines are above")
            yield Served(url, process.pid, started, time.perf_counter())
        finally:
            process.terminate()
            process.wait(GRACE)
            reader.join()


def begun(arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    """The command, just started."""
    command = [sys.executable, "-c", CONSOLE_SCRIPT, *arguments]
    stdout, stderr = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr, text=True)


def _read(stream: Any, ready: "queue.SimpleQueue[str | None]") -> None:
    """Passes the address on, drains the rest; what is no log line goes to our own stderr."""
    for line in stream:
        if not line.startswith("{"):
            sys.stderr.write(line)
        elif (entry := json.loads(line))["event"] == "ready":
            ready.put(entry["url"])
    ready.put(None)


@dataclass(frozen=True, slots=True)
class Reply:
    """`tokens`: counted by the client where they came one by one; else as the server says. `version`: the task's."""

    first: float
    tokens: int
    version: int | None


class Client:
    """One connection, kept open. Every method raises RuntimeError for an answer that is an error."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)

    def put(self, task: str, data: bytes) -> int:
        """Publish a prompt file; the version that it became."""
        response = self._send("PUT", f"/tasks/{task}", data, "application/octet-stream")
        version: int = json.loads(response.read())["version"]
        return version

    def whole(self, body: bytes) -> Reply:
        """An answer in one piece: all of it is there before any of it can be seen."""
        answer = json.loads(self._send("POST", "/generate", body).read())
        return Reply(time.perf_counter(), answer["usage"]["completion_tokens"], answer["version"])

    def streamed(self, body: bytes) -> Reply:
        """Token by token, each an event. Only the last is parsed: the client takes its time from the same cores."""
        response = self._send("POST", "/generate_stream", body)
        first, tokens, last = 0.0, 0, b"{}"
        while line := response.readline():
            if line.startswith(EVENT):
                first = first or time.perf_counter()
                tokens += TOKEN in line
                last = line.removeprefix(EVENT)
        details = json.loads(last).get("details")
        if not details:
            raise RuntimeError("the stream has ended before its answer")
        return Reply(first, tokens, details["version"])

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, body: bytes, kind: str = "application/json") -> HTTPResponse:
        self._connection.request(method, path, body, {"Content-Type": kind})
        response = self._connection.getresponse()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {response.read()[:200]!r}")
        return response


def question(task: str | None, text: str, new_tokens: int) -> bytes:
    """The body of a request for exactly so many tokens; no task is the bare model."""
    named = {} if task is None else {"task": task}
    parameters = {"max_new_tokens": new_tokens, "ignore_eos": True}
    return json.dumps({**named, "inputs": text, "parameters": parameters}).encode()


def closed_loop(url: str, ask: Callable[[Client, bytes], T], bodies: Sequence[bytes], concurrency: int) -> list[T]:
    """Every body asked once, by `concurrency` clients that each ask for the next as soon as they are answered."""
    with ExitStack() as stack, ThreadPoolExecutor(concurrency) as pool:
        idle: queue.SimpleQueue[Client] = queue.SimpleQueue()
        for _ in range(concurrency):
            idle.put(stack.enter_context(closing(Client(url))))

        def one(body: bytes) -> T:
            client = idle.get()
            try:
                return ask(client, body)
            finally:
                idle.put(client)

        return list(pool.map(one, bodies))


def resident(pid: int | str = "self") -> int:
    """Bytes of a process that lie in memory now (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
