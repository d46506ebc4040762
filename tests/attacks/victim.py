"""A server under attack, seen from outside: its URL, its store's directory, its log and its process.

Knows nothing of what is sent to it.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from prompt_store.metadata import Base
from tests.e2e.process import serving
from tests.server.site import embeddings
from tests.server.site import site as running

Lines = list[dict[str, Any]]
TARGET, NEIGHBOUR = "target", "neighbour"
ASKED = {"task": NEIGHBOUR, "inputs": "play some jazz", "parameters": {"max_new_tokens": 16, "ignore_eos": True}}
SHORT = {"max_new_tokens": 8}
"""What an answer is where nobody asks for more."""
DEADLINE = 1.0
"""Seconds for a body, of the server that is called hasty."""
UPLOAD_LIMIT = 100 * 2**20
"""Bytes: room for a header of 99 MB, which the library alone would take."""


@dataclass(frozen=True, slots=True)
class Victim:
    """`log` and `other` grow while it runs; `pid` is of a process that does nothing else, None inside of the tests'."""

    url: str
    http: httpx.Client
    store: Path
    log: Lines
    other: list[str]
    pid: int | None
    said: str
    """What the neighbour is answered while nobody attacks."""

    def kept(self) -> dict[str, str]:
        """Every name below the store's directory, of files with their digest; a temporary one is a name too."""
        return {
            str(path.relative_to(self.store)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in sorted(self.store.rglob("*"))
        }

    def history(self, task: str) -> list[Any]:
        """What is current and everything before it."""
        answers = [self.http.get(f"/tasks/{task}{part}") for part in ("", "/versions")]
        return [(answer.status_code, _without(answer.json(), "resident")) for answer in answers]

    def status_of(self, name: str) -> int:
        """Bytes of the process, as Linux tells them."""
        told = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert told is not None
        return 1024 * int(told[1])

    def forget_peak(self) -> int:
        """The peak begins anew; returns what is held now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.status_of("VmRSS")


def _without(answer: Any, name: str) -> Any:
    """The same with a stable part only; an error's message is stable too."""
    return {key: value for key, value in answer.items() if key != name} if isinstance(answer, dict) else answer


def _prepared(http: httpx.Client) -> str:
    """A task that is attacked and one beside it, published and asked once."""
    info = http.get("/info").json()
    base = Base(info["fingerprint"], info["model"], hidden=64, layers=3, kv_heads=2, head_dim=16)
    for name, seed in ((TARGET, 1), (NEIGHBOUR, 2)):
        file = embeddings(base, "play {text}", 4, seed, defaults=SHORT)
        http.put(f"/tasks/{name}", content=file.data).raise_for_status()
    said: str = http.post("/generate", json=ASKED).raise_for_status().json()["generated_text"]
    return said


@contextmanager
def process(base: Path, store: Path, under: Sequence[str] = ()) -> Iterator[Victim]:
    """A real process: its memory is its own, and its log is what an operator would read."""
    variables = {"SOFTPROMPT_MAX_UPLOAD_BYTES": str(UPLOAD_LIMIT)}
    with serving("--model", str(base), "--store", str(store), under=under, **variables) as (found, client):
        yield Victim(found.url, client, store, found.log, found.other, found.pid, _prepared(client))


@contextmanager
def inside(base: Path, store: Path, lines: Lines, **settings: Any) -> Iterator[Victim]:
    """A server with settings of its own, in a thread."""
    with running(base, store, **settings) as found:
        yield Victim(found.url, found.http, store, lines, [], None, _prepared(found.http))
