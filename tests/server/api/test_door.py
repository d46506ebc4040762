"""How many come in, who makes room for them, and what the rest is told."""

import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from server.api.door import OWN_FILES, TOLD_AT_ONCE, most
from server.config import Settings
from tests.server.site import Site, connect, read_answer, status
from tests.server.site import site as running

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF = (
    b"POST /render HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
)


@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_the_idle_make_room_and_then_nobody_does(base_folder: Path, parser: str) -> None:
    """Silent ones first, kept ones next, who is answered never; a newcomer without room is told 503 and when again."""
    with running(base_folder, "memory://", http_parser=parser, max_connections=4) as site, ExitStack() as stack:
        site.http.close()
        kept, silent = (stack.enter_context(connect(site.url)) for _ in range(2))
        kept.sendall(GET)
        assert status(read_answer(kept)) == 200
        busy = [stack.enter_context(connect(site.url)) for _ in range(2)]
        for connection in busy:
            begin(connection)
        for leaving in (silent, kept):
            begin(stack.enter_context(connect(site.url)))
            assert leaving.recv(1) == b""
        with connect(site.url) as newcomer:
            newcomer.sendall(GET)
            answer = read_answer(newcomer)
            assert newcomer.recv(1) == b""
        assert status(answer) == 503
        assert b"too_many_connections" in answer
        assert b"retry-after: 1" in answer
        busy[0].sendall(b"x" * 10)
        assert status(read_answer(busy[0])) == 400
        with connect(site.url) as newcomer:
            newcomer.sendall(GET)
            assert status(read_answer(newcomer)) == 200


def test_of_a_crowd_without_room_the_first_are_told(base_folder: Path) -> None:
    """The rest is closed without a word: to tell them takes a descriptor each."""
    with running(base_folder, "memory://", max_connections=1) as site, ExitStack() as stack:
        site.http.close()
        begin(stack.enter_context(connect(site.url)))
        crowd = [stack.enter_context(connect(site.url)) for _ in range(3 * TOLD_AT_ONCE)]
        told = [status(read_answer(one)) for one in crowd]
    assert set(told) == {503, 0}
    assert told.count(503) >= TOLD_AT_ONCE


@contextmanager
def held(site: Site) -> Iterator[None]:
    """Its loop comes to nothing."""
    done = threading.Event()
    site.desk.room.tasks.reach.left.get_loop().call_soon_threadsafe(done.wait, 60)
    yield
    done.set()


def test_who_has_spoken_makes_no_room(base_folder: Path) -> None:
    """A crowd that came and asked while the loop was busy: as many as there is room for are answered, none cut off."""
    most = 4
    with running(base_folder, "memory://", max_connections=most) as site, ExitStack() as stack:
        site.http.close()
        with held(site):
            crowd = [stack.enter_context(connect(site.url)) for _ in range(2 * most)]
            for one in crowd:
                one.sendall(GET)
        told = [status(read_answer(one)) for one in crowd]
    assert told == [200] * most + [503] * most


def test_who_never_ends_a_request_makes_room(base_folder: Path) -> None:
    """However busily it goes on with it."""
    with running(base_folder, "memory://", max_connections=2) as site, ExitStack() as stack:
        site.http.close()
        slow, answered = (stack.enter_context(connect(site.url)) for _ in range(2))
        slow.sendall(GET[:10])
        begin(answered)
        with held(site):
            newcomer = stack.enter_context(connect(site.url))
            slow.sendall(GET[10:11])
            newcomer.sendall(GET)
        assert status(read_answer(newcomer)) == 200


def begin(connection: socket.socket) -> None:
    """A request whose body is waited for."""
    connection.sendall(HALF)
    assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")


def test_the_limit_follows_the_system() -> None:
    """As many as the descriptors leave room for; the soft limit is raised, no further than needed."""
    code = (
        "import resource, sys; from server.api.door import most; from server.config import Settings\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))\n"
        "print(most(Settings(store='memory://', max_connections=int(sys.argv[3]) or None)),"
        " resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for given, told in {
        (256, 256, 0): (256 - OWN_FILES, 256),
        (256, 1024, 0): (1024 - OWN_FILES, 1024),
        (256, 1024, 200): (200, 200 + OWN_FILES),
        (1024, 1024, 10): (10, 1024),
        (64, 64, 0): (1, 64),
    }.items():
        said = subprocess.run(
            [sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, check=True
        ).stdout
        assert tuple(map(int, said.split())) == told
    assert most(Settings(store="memory://")) <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES
