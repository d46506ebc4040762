"""Both clients behind one face, so that every test holds for both; a server that answers by a script."""

import asyncio
import inspect
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from softprompt_client import AsyncClient, Client
from tests.server.conftest import base_folder, silence, site

__all__ = ["base_folder", "silence", "site"]

CLIENTS = (Client, AsyncClient)


class Waiting:
    """A client whose every method gives a value: what is awaited is waited for, what is iterated is a list."""

    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name == "tasks":
            return Waiting(found, self._runner)
        return self._waited(found) if callable(found) else found

    def _waited(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def value(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            if isinstance(found, AsyncIterator):
                return self._runner.run(_all(found))
            if isinstance(found, Awaitable):
                return self._runner.run(_awaited(found))
            return list(found) if inspect.isgenerator(found) else found

        return value


async def _all(found: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in found]


async def _awaited(found: Awaitable[Any]) -> Any:
    return await found


Asking = Callable[..., Waiting]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def client_of(request: pytest.FixtureRequest) -> Iterator[Asking]:
    """Makes a client of either sort."""
    made: list[Waiting] = []
    with asyncio.Runner() as runner:

        def make(url: str, key: str | None = None, **more: Any) -> Waiting:
            made.append(Waiting(request.param(url, key, **more), runner))
            return made[-1]

        yield make
        for client in made:
            client.close() if request.param is Client else client.aclose()


class Scripted:
    """Answers each connection with the next bytes of its script, b"" closes without an answer. `heard`: requests."""

    def __init__(self, script: Sequence[bytes], listener: socket.socket) -> None:
        self.heard: list[bytes] = []
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._script = script
        self._listener = listener

    def run(self) -> None:
        for said in self._script:
            connection, _ = self._listener.accept()
            with connection:
                self.heard.append(_request(connection))
                connection.sendall(said)
        self._listener.close()  # whoever asks more often is refused, and so is seen


def _request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def scripted(*script: bytes) -> Iterator[Scripted]:
    """On a free port of loopback. The script must be played to its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Scripted(script, listener)
        thread = threading.Thread(target=server.run)
        thread.start()
        yield server
        thread.join(30)
        assert not thread.is_alive(), f"{len(script) - len(server.heard)} answers were never asked for"


def response(status: int, body: bytes, **headers: str) -> bytes:
    """HTTP's bytes; the connection is closed behind them."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
