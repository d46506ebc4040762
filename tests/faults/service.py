"""The end of a whole server under mixed load over HTTP, killed or told: publishes, deletes, roll-backs, generations.

`python -m tests.faults.service --kills 25` prints a line of JSON a kill, and takes some four seconds for each;
`--signal TERM` tells it to end instead, which it has to do in time and with exit code 0.
"""

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import httpx

from server.leaving import LATEST_SECONDS
from tests.e2e.process import Process
from tests.faults.ledger import TASKS, Ledger
from tests.faults.outcome import Outcome, tell
from tests.models import save
from tests.server.site import embeddings

CLIENTS = 4
MOST = 60
"""Most acknowledgements before a kill."""
READY_SECONDS = 60.0
DRAIN_SECONDS = 1.0
FILES = [embeddings(None, "{input}", length, seed=length) for length in (1, 2, 4, 8, 16)]
EVENTS, WEIGHTS = ("publish", "delete", "rollback", "generate"), (4, 1, 1, 4)
EXPECTED = {200, 201, 204, 404, 409}
"""Many a task is deleted, has no such version, or is rolled back to a tombstone."""


class LeavingError(Exception):
    """The server has said that it ends."""


class _Client(threading.Thread):
    """Asks until nobody answers, or the server says that it ends."""

    def __init__(self, url: str, name: str, ledger: Ledger, heard: threading.Semaphore) -> None:
        super().__init__()
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._name = name
        self._ledger = ledger
        self._heard = heard
        self._draw = Random(name)

    def run(self) -> None:
        with self._http:
            try:
                for number in count():
                    self._act(f"{self._name}-{number}")
            except (httpx.TransportError, LeavingError):
                return

    def _act(self, op: str) -> None:
        task, event = self._draw.choice(TASKS), self._draw.choices(EVENTS, WEIGHTS)[0]
        file, key = self._draw.choice(FILES), {"idempotency-key": op}
        body: dict[str, Any]
        if event == "generate":
            body = {"task": task, "inputs": "play", "parameters": {"max_new_tokens": 8}}
            answer = self._http.post("/generate", json=body)
        else:
            self._ledger.means(op, task, event, file.digest)
            if event == "publish":
                answer = self._http.put(f"/tasks/{task}", content=file.data, headers=key)
            elif event == "delete":
                answer = self._http.delete(f"/tasks/{task}", headers=key)
            else:
                body = {"version": self._draw.randint(1, 9)}
                answer = self._http.post(f"/tasks/{task}/rollback", json=body, headers=key)
        self._heed(op, task, event, answer)

    def _heed(self, op: str, task: str, event: str, answer: httpx.Response) -> None:
        if answer.status_code == 503 and answer.json()["error"]["code"] == "draining":
            raise LeavingError
        if answer.status_code not in EXPECTED:
            self._ledger.broken(f"{event}: {answer.status_code} {answer.text}")
        if event == "delete" and answer.status_code == 204:
            self._ledger.told(op, task, "delete", None, None)
        elif answer.status_code == 201:
            told = answer.json()
            self._ledger.told(op, task, event, told["digest"], told["version"])
        self._heard.release()


def ends(folder: Path, seed: int, number: signal.Signals) -> Iterator[Outcome]:
    """By the signal `number`, without end, on one store."""
    base, root, draw = save(folder / "base"), folder / "store", Random(seed)
    ledger = Ledger(root)
    for round_ in count():
        began = time.monotonic()
        server = Process("--model", str(base), "--store", str(root), SOFTPROMPT_DRAIN_SECONDS=str(DRAIN_SECONDS))
        with server.wait_until_ready():
            seconds = time.monotonic() - began
            heard = threading.Semaphore(0)
            clients = [_Client(server.url, f"{seed}-{round_}-{each}", ledger, heard) for each in range(CLIENTS)]
            for client in clients:
                client.start()
            for _ in range(draw.randint(1, MOST)):
                heard.acquire()
            odd = _ended(server, number)
            for client in clients:
                client.join()
        late = f"ready after {seconds:.0f} s" if seconds > READY_SECONDS else None
        row = "P8" if number == signal.SIGKILL else "X1"
        yield Outcome(row, f"server: {number.name} {round_}", ledger.lost() or odd or late)


def _ended(server: Process, number: signal.Signals) -> str | None:
    """What is wrong with the way in which it ended."""
    began = time.monotonic()
    server.send(number)
    code, seconds = server.wait(), time.monotonic() - began
    if number == signal.SIGKILL:
        return None
    if code or seconds > DRAIN_SECONDS + LATEST_SECONDS:
        return f"exit code {code} after {seconds:.1f} s"
    return None


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signal", default="KILL", choices=["KILL", "TERM"])
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tell(ends(Path(folder), given.seed, signal.Signals[f"SIG{given.signal}"]), given.kills)


if __name__ == "__main__":
    main(sys.argv[1:])
