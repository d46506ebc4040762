"""Clients that read slowly, or not at all, over each parser."""

import contextlib
import select
import socket
import time

import pytest

from server.api import outgoing
from server.api.outgoing import LINGER_SECONDS
from tests.server.api.connections import ENDING, LARGE, LATEST, SECONDS, connections, get, not_reading
from tests.server.site import Site, connect, read_answer, status, until

ONE_PIECE, SMALL = "/openapi.json", "/static/page.css"


def taken(connection: socket.socket) -> int:
    """Bytes that still come before the reset."""
    count = 0
    while True:
        try:
            piece = connection.recv(1 << 20)
        except ConnectionError:
            return count
        assert piece, "it ended as if it were whole"
        count += len(piece)


def sipped(connection: socket.socket, seconds: float) -> None:
    """As slowly as it is still noticed by the kernel."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        connection.recv(300)
        select.select([], [], [], 0.1)


@pytest.mark.parametrize("how", ["kept", "closed", "half-closed"])
def test_who_does_not_read_an_answer_is_cut_off(hasty: Site, how: str) -> None:
    """A large answer, whatever the client says of the connection: nothing of it is left."""
    before = connections(hasty)
    closing = ("Connection: close",) if how == "closed" else ()
    with not_reading(hasty, get(LARGE, *closing)) as connection:
        if how == "half-closed":
            connection.recv(1)
            connection.shutdown(socket.SHUT_WR)
        until(lambda: connections(hasty) <= before, "it is cut off", 3 * SECONDS + LATEST)
        assert taken(connection) < 1_000_000


def test_who_takes_next_to_nothing_is_cut_off(hasty: Site) -> None:
    """A byte now and then keeps the kernel waiting for ever; three thousand a second are too few."""
    before = connections(hasty)
    with not_reading(hasty, get(LARGE)) as connection:
        with pytest.raises(ConnectionError):
            sipped(connection, SECONDS + LATEST)
        until(lambda: connections(hasty) <= before, "nothing is left of it")


def test_what_is_left_with_the_kernel_is_not_held_for_ever(hasty: Site) -> None:
    """Who asks for the end and does not read: the process is done with it at once, the system in the time it has."""
    with not_reading(hasty, get(SMALL, "Connection: close")):
        until(lambda: connections(hasty, ENDING) > 0, "the system holds the rest")
        until(lambda: not connections(hasty, ENDING), "it holds it no more", 3 * SECONDS + LATEST)


def test_who_goes_on_sending_after_the_last_word_is_cut_off(hasty: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast: beyond a bound of bytes nobody waits for the end of the time."""
    monkeypatch.setattr(outgoing, "LINGER_BYTES", 2**20)
    monkeypatch.setattr(outgoing, "LINGER_SECONDS", 600.0)
    with connect(hasty.url) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert status(read_answer(connection)) == 400
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(2**30))


def test_who_reads_slowly_but_reads_has_it_all(hasty: Site) -> None:
    """Longer than `write_seconds` for the whole, never too slow for a part."""
    whole = len(hasty.http.get(LARGE).content)
    with not_reading(hasty, get(LARGE, "Connection: close")) as connection:
        received, began = b"", time.monotonic()
        while piece := connection.recv(65536):
            received += piece
            select.select([], [], [], max(0.0, began + len(received) / whole * 2 * SECONDS - time.monotonic()))
    head, _, body = received.partition(b"\r\n\r\n")
    assert status(head) == 200
    assert time.monotonic() - began > SECONDS
    assert len(body) == whole


def test_who_goes_on_sending_reads_a_large_answer_to_its_end(hasty: Site) -> None:
    """It may take longer than the last word is waited for, as long as it is taken."""
    whole, seconds = len(hasty.http.get(ONE_PIECE).content), LINGER_SECONDS * 2 + 2
    with not_reading(hasty, get(ONE_PIECE, "Content-Length: 1000000000")) as connection:
        received, began = b"", time.monotonic()
        while piece := connection.recv(8192):
            received += piece
            with contextlib.suppress(BrokenPipeError):
                connection.send(b"more")
            select.select([], [], [], max(0.0, began + len(received) / whole * seconds - time.monotonic()))
    head, _, body = received.partition(b"\r\n\r\n")
    assert status(head) == 200
    assert len(body) == whole
