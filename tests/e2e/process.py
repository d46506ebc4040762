"""`softprompt serve` as a user starts it: a process of its own, known by its output and its socket alone."""

import json
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import httpx

from tests.forked import OURS, Forked, Preparation, Start, environment

COMMAND = Path(sys.executable).parent / "softprompt"
READ_LATE = "OTEL_"
"""Of others: what a library reads when it is asked to, not when it is imported."""
PATIENCE = 120.0
"""Seconds for a start on a busy machine."""


class Process:
    """One running server. `log` holds its log lines so far, each an object.

    `under`: a command that starts it, or what it does itself before all else.
    """

    def __init__(self, *options: str, under: Sequence[str] | Preparation = (), **variables: str) -> None:
        self._process = _started(options, under, variables)
        self.log: list[dict[str, Any]] = []
        self.other: list[str] = []
        self.url = ""
        self._ready: Queue[str] = Queue()
        self._events: Queue[str] = Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stderr,)),
            threading.Thread(target=self._read, args=(self._process.stdout,)),
        ]
        for reader in self._readers:
            reader.start()

    def wait_until_ready(self, trust: ssl.SSLContext | bool = True, patience: float = PATIENCE) -> httpx.Client:
        self.url = self._ready.get(timeout=patience)
        assert self.url, self.other
        return self.client(trust)

    def client(self, trust: ssl.SSLContext | bool = True) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, verify=trust)

    def wait_for(self, event: str) -> None:
        """Until the server has logged `event`."""
        while (entry := self._events.get(timeout=PATIENCE)) != event:
            assert entry, self.other

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        code = self._process.wait(seconds)
        for reader in self._readers:
            reader.join()
        return code

    def end(self) -> int:
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait()

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self._take(line)
        self._ready.put("")
        self._events.put("")

    def _take(self, line: str) -> None:
        if not line.startswith("{"):
            self.other.append(line)
            return
        entry = json.loads(line)
        self.log.append(entry)
        self._events.put(entry["event"])
        if entry["event"] == "ready":
            self._ready.put(entry["url"])


def _started(
    options: Sequence[str], under: Sequence[str] | Preparation, variables: Mapping[str, str]
) -> "subprocess.Popen[str] | Forked":
    """Forked, unless it has to be made anew."""
    given = environment({"SOFTPROMPT_JOBS": "", **variables})
    arguments = ["serve", "--port", "0", "--threads", "1", *options]
    if callable(under):
        return Forked(Start(arguments, given, before=under))
    if not under and all(name.startswith((OURS, READ_LATE)) for name in variables):
        return Forked(Start(arguments, given))
    return subprocess.Popen(
        [*under, COMMAND, *arguments], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def serving(*options: str, under: Sequence[str] = (), **variables: str) -> Iterator[tuple[Process, httpx.Client]]:
    """A ready server and a client, ended with SIGTERM and exit code 0."""
    with secured(True, *options, under=under, **variables) as found:
        yield found


@contextmanager
def secured(
    trust: ssl.SSLContext | bool, *options: str, under: Sequence[str] = (), **variables: str
) -> Iterator[tuple[Process, httpx.Client]]:
    """The same with a client that believes the certificates that `trust` does."""
    process = Process(*options, under=under, **variables)
    try:
        with process.wait_until_ready(trust) as client:
            yield process, client
    finally:
        code = process.end()
    assert code == 0, process.other
