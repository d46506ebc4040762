"""Whoever leaves frees the engine: streams and plain requests, one and many."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.site import Site, asking, connect, lengthened, until
from tests.server.site import site as running

LONG = {"max_new_tokens": 3000, "ignore_eos": True}
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("/generate", {"inputs": "play", "parameters": LONG}),
    "choices": ("/generate", {"inputs": "play", "parameters": {**LONG, "n": 4}}),
    "batch": ("/generate", {"requests": [{"inputs": "play", "parameters": LONG}] * 3}),
    "stream": ("/generate_stream", {"inputs": "play", "parameters": LONG}),
    "stream on demand": ("/generate", {"inputs": "play", "stream": True, "parameters": LONG}),
}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Site]:
    """The same small base with room for answers that take many seconds."""
    with running(lengthened(base_folder, tmp_path_factory.mktemp("long")), "memory://") as found:
        yield found


@pytest.mark.parametrize("name", ASKS)
def test_who_leaves_is_not_generated_for(long: Site, name: str) -> None:
    """The sequences end when the connection does, long before their last token."""
    path, body = ASKS[name]
    with connect(long.url) as connection:
        connection.sendall(asking(path, body))
        until(long.busy, "it runs")
    generated = long.snapshot().counters.generated
    until(long.idle, "it has been cancelled")
    assert long.snapshot().counters.generated - generated < 1000


def test_who_leaves_in_the_middle_of_a_stream_is_noticed(long: Site) -> None:
    """After the first token, too."""
    with connect(long.url) as connection:
        connection.sendall(asking(*ASKS["stream"]))
        received = b""
        while received.count(b"data: ") < 3:
            received += connection.recv(4096)
    until(long.idle, "it has been cancelled")


def test_neighbours_of_who_leaves_are_answered(long: Site) -> None:
    """The others' tokens are what they are alone."""
    alone = long.generate("play some jazz", max_new_tokens=20)
    with connect(long.url) as connection:
        connection.sendall(asking(*ASKS["plain"]))
        until(long.busy, "it runs")
        connection.close()
        assert long.generate("play some jazz", max_new_tokens=20)["generated_text"] == alone["generated_text"]
    until(long.idle, "it has been cancelled")
