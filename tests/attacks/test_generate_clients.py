"""Clients that stop reading and clients that leave: G41 and G42."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.asking import question
from tests.attacks.attack import Attack, Sent
from tests.attacks.victim import Lines, Victim, inside
from tests.models import save
from tests.server.site import Site, asking, connect, lengthened, until
from tests.server.site import site as running

LONG = 60_000
"""Tokens: more than buffers on the way can hold, with twenty logprobs each."""
ANSWER = 24
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def impatient(tmp_path: Path, lines: Lines) -> Iterator[Victim]:
    """A server with room for very long answers that waits for a reader for half a second."""
    base = save(tmp_path / "base")
    with inside(lengthened(base, tmp_path / "long", 2**16), tmp_path / "store", lines, write_seconds=0.5) as found:
        yield found


@pytest.mark.parametrize("route", ["/generate_stream", "/v1/completions"])
def test_G41_a_client_that_reads_nothing(attack: Attack, impatient: Victim, route: str) -> None:
    """Its window is full: the write's deadline cuts it off, its slot is free, and no end of the answer is told."""
    many = {"max_new_tokens": LONG, "ignore_eos": True, "logprobs": 20}
    body = {**question(route), "parameters": many}
    if route == "/v1/completions":
        body = {**question(route), "max_tokens": LONG, "ignore_eos": True, "logprobs": 20, "stream": True}
    assert (200, "") in attack.row.answers
    cut = attack.on(impatient)
    address = httpx.URL(impatient.url)
    with cut.watched() as seen, socket.socket() as connection:
        seen.append(Sent(cut.number(), 200, b""))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect((address.host, address.port))
        connection.sendall(asking(route, body, f"x-request-id: {seen[-1].id}"))
        until(lambda: _engine(impatient)["running"] == 0 and seen[-1].id in str(impatient.log), "it was cut off", 120)
        received = b""
        with suppress(ConnectionError):
            while piece := connection.recv(2**16):
                received += piece
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"details":{' not in received
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")


def _engine(victim: Victim) -> dict[str, Any]:
    found: dict[str, Any] = victim.http.get("/info").json()["engine"]
    return found


class Gate:
    """Lets one forward pass through for each permit; all of them when it is open."""

    def __init__(self, site: Site) -> None:
        runner = site.desk.room.running.engine._runner
        self._run, self._permits, self.open = runner.run, threading.Semaphore(0), threading.Event()
        runner.run = self._one  # type: ignore[method-assign]

    def let(self, passes: int) -> None:
        self._permits.release(passes)

    def _one(self, step: Any) -> Any:
        if not self.open.is_set():
            self._permits.acquire()
        return self._run(step)


@pytest.fixture(scope="module")
def gated(base_folder: Path, lines: Lines) -> Iterator[tuple[Site, Gate]]:
    with running(base_folder, "memory://") as site:
        gate = Gate(site)
        yield site, gate
        gate.open.set()
        gate.let(1)


@pytest.mark.parametrize("ending", ["FIN", "RST"])
@pytest.mark.parametrize("route", ["/generate", "/generate_stream", "/v1/completions"])
def test_G42_a_client_that_leaves(
    attack: Attack, gated: tuple[Site, Gate], lines: Lines, route: str, ending: str
) -> None:
    """After every token of an answer: the pass that runs is its last one, and the slot is free after it."""
    site, gate = gated
    body: dict[str, Any] = {"task": "base", "inputs": "x", "parameters": {"max_new_tokens": ANSWER, "ignore_eos": True}}
    if route == "/v1/completions":
        body = {"model": "base", "prompt": "x", "max_tokens": ANSWER, "ignore_eos": True}
    for token in range(1, ANSWER):
        before, request_id = site.snapshot().counters.generated, attack.number()
        with connect(site.url) as connection:
            connection.sendall(asking(route, body, f"x-request-id: {request_id}"))
            gate.let(token)
            _await_tokens(site, before + token)
            received = b""
            while route == "/generate_stream" and received.count(b"data: ") < token:
                received += connection.recv(2**16)
            if ending == "RST":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        line = _line(lines, request_id)
        assert (line["status"], "") in attack.row.answers
        assert line["status"] == (200 if route == "/generate_stream" else 499)
        gate.let(1)
        until(site.idle, "its slot is free after one pass")
        assert site.snapshot().counters.generated - before <= token + 1


def _await_tokens(site: Site, count: int) -> None:
    until(lambda: site.generated() == count, "it has its tokens")


def _line(lines: Lines, request_id: str) -> dict[str, Any]:
    """The request's, once the server knows that it has ended."""
    until(lambda: any(line.get("request_id") == request_id for line in list(lines)), "the server knows")
    (line,) = [line for line in lines if line.get("request_id") == request_id]
    return line
