"""A whole server for tests: the real engine on a small random base, real HTTP on a real socket, in a thread.

Also what tests say to it: raw bytes where a client library would be too polite.
"""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from starlette.types import ASGIApp

from prompt_store.metadata import Base, Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, Tensor, build
from server.app import build as application
from server.app import started
from server.config import Settings
from server.engine.settings import Snapshot
from server.lifecycle import Lifecycle
from server.publish import Desk
from server.serve import Listening, bound, configuration
from tests.models import rows

PATIENCE = 30.0
"""Seconds until a condition that should come true at once is given up."""
BREATH = 0.005
"""Seconds between two looks at it."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running server; `http` is a client without a key."""

    url: str
    desk: Desk
    http: httpx.Client
    lifecycle: Lifecycle
    app: ASGIApp

    @property
    def base(self) -> Base:
        return self.desk.room.running.engine.base.base

    def snapshot(self) -> Snapshot:
        return self.desk.room.running.engine.snapshot()

    def generated(self) -> int:
        """Ids since the start; asked over HTTP as `idle` is."""
        return int(self.http.get("/info").json()["engine"]["counters"]["generated"])

    def idle(self) -> bool:
        """Asked over HTTP: a look in a loop must not keep the engine from running."""
        found = self.http.get("/info").json()["engine"]
        return bool(found["running"] == 0 and found["waiting"] == 0)

    def busy(self) -> bool:
        return not self.idle()

    def generate(self, inputs: Any, task: str | None = None, **fields: Any) -> Any:
        """The answer of /generate; keywords that are no fields of the body are parameters."""
        body: dict[str, Any] = {"inputs": inputs}
        if task is not None:
            body["task"] = task
        own = ("version", "min_version", "truncate", "stream")
        body |= {name: value for name, value in fields.items() if name in own}
        body["parameters"] = {name: value for name, value in fields.items() if name not in own}
        answer = self.http.post("/generate", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def publish(self, name: str, template: str = "{input}", *, soft: int = 0, seed: int = 0, **fields: Any) -> Any:
        """A text task, or with `soft` rows one of kind embeddings."""
        file = embeddings(self.base, template, soft, seed, **fields) if soft else None
        if file is None:
            answer = self.http.put(f"/tasks/{name}", json={"template": template, **fields})
        else:
            answer = self.http.put(f"/tasks/{name}", content=file.data)
        assert answer.is_success, answer.text
        return answer.json()


def embeddings(
    base: Base | None, template: str, soft: int, seed: int = 0, *, hidden: int = 64, **fields: Any
) -> PromptFile:
    """A prompt file of `soft` random rows, as wide as the small random bases unless `hidden` says otherwise."""
    values = rows(soft, hidden, seed).numpy()
    return build(
        SoftPrompt("embeddings", soft, {"embeddings": Tensor.from_float32(values)}),
        Metadata("embeddings", soft, template, base=base, **fields),
    )


def peft_file(array: np.ndarray[Any, Any]) -> bytes:
    """`adapter_model.safetensors` as PEFT writes it."""
    data = array.astype(np.float32).tobytes()
    entry = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "prompt_embeddings": entry}, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header + data


class _Quiet(Listening):
    """Says when it listens; without signals: it is no process."""

    def __init__(self, config: uvicorn.Config, settings: Settings, listening: threading.Event) -> None:
        super().__init__(config, settings)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()


@contextmanager
def site(base: Path | None, store: Path | str, **settings: Any) -> Iterator[Site]:
    """A server on any free port of this machine; without a folder for jobs it learns nothing."""
    own = {"jobs": "", **settings}
    chosen = Settings(model=None if base is None else str(base), store=str(store), port=0, threads=1, **own)
    listening = threading.Event()
    up: list[tuple[Desk, Lifecycle, ASGIApp, _Quiet]] = []
    failed: list[BaseException] = []
    with bound(chosen) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        async def run() -> None:
            async with started(chosen) as found:
                lifecycle = Lifecycle()
                app = application(found, lifecycle)
                server = _Quiet(configuration(app, found.desk, lifecycle), chosen, listening)
                up.append((found.desk, lifecycle, app, server))
                await server.serve([listener])

        def main() -> None:
            try:
                asyncio.run(run())
            except Exception as error:  # noqa: BLE001 - told to the test, which waits for it
                failed.append(error)
            finally:
                listening.set()

        thread = threading.Thread(target=main, name="site")
        thread.start()
        listening.wait(PATIENCE)
        if failed:
            raise failed[0]
        desk, lifecycle, app, server = up[0]
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
                yield Site(url, desk, client, lifecycle, app)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
    assert not failed


def lengthened(base: Path, folder: Path, positions: int = 4096) -> Path:
    """A copy of the base in `folder` with room for long answers: random weights know of no last position."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    return folder


def asking(path: str, body: dict[str, Any], *headers: str) -> bytes:
    """A POST as it goes over the wire."""
    data = json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers)
    return "\r\n".join((*head, f"Content-Length: {len(data)}", "", "")).encode() + data


def until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Looks until `condition` holds, with a breath between two looks: who spins takes away what it waits for."""
    deadline, never = time.monotonic() + patience, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        never.wait(BREATH)


def raw(url: str, request: bytes, *, half_close: bool = False) -> bytes:
    """Sends bytes as they are and reads until the server closes or the answer is complete."""
    with connect(url) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def connect(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=PATIENCE)


def read_answer(connection: socket.socket) -> bytes:
    """One HTTP answer with a Content-Length, or whatever comes until the connection closes."""
    received = b""
    while chunk := _receive(connection):
        received += chunk
        head, separator, body = received.partition(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None)
        if separator and length is not None and len(body) >= int(length.partition(b":")[2]):
            break
    return received


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


def status(answer: bytes) -> int:
    """Of a raw answer; 0 when the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
