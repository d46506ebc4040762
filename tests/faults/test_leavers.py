"""Clients that go in the middle of an answer: row N1."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.network import leaving
from tests.server.api.test_metrics import of, scraped
from tests.server.site import Site, asking, lengthened, until
from tests.server.site import site as running

TOKENS = 24
"""Indices that somebody leaves at."""
LONG = {"max_new_tokens": 3000, "ignore_eos": True}
ASKED = {"inputs": "play some jazz", "parameters": LONG}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Site]:
    """The same small base with room for answers that nobody hears to their end."""
    with running(lengthened(base_folder, tmp_path_factory.mktemp("long")), "memory://") as found:
        yield found


@contextmanager
def told_to_cancel(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The engine's forward passes at each cancel; whoever asks is answered as ever."""
    engine = site.desk.room.running.engine
    passes: list[int] = []
    cancel = engine.cancel

    def noted(request_id: Hashable) -> None:
        cancel(request_id)
        passes.append(forwards(site))  # afterwards: in between a busy machine makes more of them

    with monkeypatch.context() as patch:
        patch.setattr(engine, "cancel", noted)
        yield passes


def forwards(site: Site) -> int:
    return site.snapshot().counters.forwards


def figures(site: Site) -> dict[str, float]:
    """What goes back to where it was, and how many have left."""
    found = scraped(site.http)
    names = ("num_requests_running", "num_requests_waiting", "event_loop_tasks")
    left = sum(value for (name, _), value in found.items() if name == "softprompt_request_cancelled_total")
    return {name: of(found, name) for name in names} | {"left": left}


def same(site: Site, before: dict[str, float]) -> bool:
    """Nothing runs or waits, and the loop has no more to do than before."""
    return all(now <= before[name] for name, now in figures(site).items() if name != "left")


def leave_at(site: Site, token: int, *, streamed: bool, reset: bool) -> None:
    """A stream once so many of its events have come, a plain request once so many ids have been generated."""
    before = site.generated()
    with leaving(site.url, reset=reset) as connection:
        connection.sendall(asking("/generate_stream" if streamed else "/generate", ASKED))
        if streamed:
            received = b""
            while received.count(b"data: ") < token:
                received += connection.recv(4096)
        else:
            until(lambda: site.generated() - before >= token, "it generates")


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "plain"])
def test_n1_who_leaves_at_any_token_frees_the_slot_within_a_step(
    long: Site, monkeypatch: pytest.MonkeyPatch, streamed: bool, reset: bool
) -> None:
    """Not one pass more than the one that runs is made for it; everything counted is as before; nobody is hurt."""
    alone = long.generate("play some jazz", max_new_tokens=20)["generated_text"]
    before = figures(long)
    for token in range(1, TOKENS + 1):
        with told_to_cancel(long, monkeypatch) as passes:
            leave_at(long, token, streamed=streamed, reset=reset)
            until(long.idle, "its slot is free")
        assert passes, "the engine was told"
        assert forwards(long) <= passes[0] + 1
    until(lambda: same(long, before), "all is as it was")
    assert figures(long)["left"] == before["left"] + TOKENS
    assert long.generate("play some jazz", max_new_tokens=20)["generated_text"] == alone


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_n1_who_leaves_before_the_first_token_leaves_nothing(long: Site, reset: bool) -> None:
    """Before the body is whole, just after it, and while others run."""
    data = asking("/generate", ASKED)
    before = figures(long)
    for sent in (10, len(data) // 2, len(data) - 1, len(data)):
        with leaving(long.url, reset=reset) as connection:
            connection.sendall(data[:sent])
    until(lambda: same(long, before), "all is as it was")
