"""Answers that wait for clients that do not take them, all together."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.api.unsent import FREE_BYTES, Unsent
from tests.server.api.connections import connections, not_reading, post
from tests.server.site import connect, read_answer, status, until
from tests.server.site import site as running

BUDGET = 2**20
CLIENTS = 6
LONG = post("/tokenize", json.dumps({"prompt": "a b " * 40_000}).encode())
"""Its ids are half a megabyte, in one piece."""


@dataclass(eq=False)
class Reader:
    is_cut: bool = False

    def cut(self) -> None:
        self.is_cut = True


def test_who_has_waited_longest_is_cut_off_first() -> None:
    """As many as have to be; who takes what it has makes room."""
    unsent, readers = Unsent(100), [Reader() for _ in range(5)]
    for reader in readers[:3]:
        unsent.hold(reader, FREE_BYTES + 40)
    assert [reader.is_cut for reader in readers] == [True, False, False, False, False]
    unsent.release(readers[1])
    unsent.hold(readers[3], FREE_BYTES + 60)
    assert not any(reader.is_cut for reader in readers[1:])
    unsent.hold(readers[2], FREE_BYTES + 41)
    assert [reader.is_cut for reader in readers] == [True, False, False, True, False]
    unsent.hold(readers[4], FREE_BYTES + 100)
    assert [reader.is_cut for reader in readers] == [True, False, True, True, False]


def test_an_answer_above_the_budget_waits_alone() -> None:
    """And what is not counted of each never adds up."""
    unsent, large, small = Unsent(100), Reader(), [Reader() for _ in range(1000)]
    unsent.hold(large, 2**30)
    alone = large.is_cut
    for reader in small:
        unsent.hold(reader, FREE_BYTES)
    assert (alone, large.is_cut) == (False, True)
    assert not any(reader.is_cut for reader in small)


@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_many_that_do_not_read_large_answers_are_not_all_waited_for(base_folder: Path, parser: str) -> None:
    """Most are cut off before their time is up, and who reads has its answer."""
    with (
        running(base_folder, "memory://", http_parser=parser, answers_budget=BUDGET, write_seconds=600) as site,
        ExitStack() as stack,
    ):
        size = len(site.http.post("/tokenize", content=LONG.partition(b"\r\n\r\n")[2]).content)
        before = connections(site)
        for _ in range(CLIENTS):
            stack.enter_context(not_reading(site, LONG))
        until(lambda: connections(site) <= before + BUDGET // size + 1, "most are cut off")
        with connect(site.url) as last:
            last.sendall(LONG)
            assert status(read_answer(last)) == 200
