"""Answers that wait for clients that do not take them, all together."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.api.unsent import FREE_BYTES, Unsent
from tests.server.api.connections import LARGE, connections, get, not_reading, post
from tests.server.site import connect, read_answer, status, until
from tests.server.site import site as running

BUDGET = 2**19
CLIENTS = 6
LONG = post("/tokenize", json.dumps({"prompt": "a b " * 40_000}).encode())
"""Its ids are half a megabyte, in one piece."""


@dataclass(eq=False)
class Reader:
    """Of so many bytes beyond those that are free."""

    size: int
    read: int = 0
    is_cut: bool = False

    def waiting(self) -> int:
        return FREE_BYTES + self.size - self.read

    def taken(self) -> int:
        return self.read

    def cut(self) -> None:
        self.is_cut = True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def cut(readers: list[Reader]) -> list[int]:
    return [number for number, reader in enumerate(readers) if reader.is_cut]


def test_of_those_that_take_nothing_who_has_waited_longest_is_cut_off() -> None:
    """As many as have to be, with a little room for the next; who has what it was sent makes room."""
    unsent, readers = Unsent(100), [Reader(40), Reader(40), Reader(40), Reader(20), Reader(100)]
    for reader in readers[:3]:
        unsent.hold(reader)
    assert cut(readers) == [0]
    unsent.release(readers[1])
    unsent.hold(readers[3])
    assert cut(readers) == [0]
    unsent.hold(readers[4])
    assert cut(readers) == [0, 2, 3]


def test_who_takes_what_it_is_sent_stays() -> None:
    """However long it has been there: those that came after it and take less go first."""
    clock = Clock()
    unsent, reading, others = Unsent(100, clock), Reader(60), [Reader(30) for _ in range(9)]
    unsent.hold(reading)
    for other in others:
        clock.now += 10
        reading.read += 1
        unsent.hold(other)
    assert not reading.is_cut
    assert cut(others) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_what_has_been_taken_counts_no_more() -> None:
    """Looked at only when there seems to be no room."""
    unsent, first, second = Unsent(100), Reader(90), Reader(90)
    unsent.hold(first)
    first.read = 85
    unsent.hold(second)
    assert cut([first, second]) == []
    unsent.release(first)
    unsent.release(second)
    third = Reader(100)
    unsent.hold(third)
    assert not third.is_cut


def test_an_answer_above_the_budget_waits_alone() -> None:
    """And what is free of each never adds up."""
    unsent, large, small = Unsent(100), Reader(2**30), [Reader(0) for _ in range(1000)]
    for reader in [large, *small]:
        unsent.hold(reader)
    assert cut([large, *small]) == []
    unsent.hold(Reader(10))
    assert large.is_cut, "another waits now"


def test_scripts_that_nobody_takes_fill_no_memory(base_folder: Path) -> None:
    """They are there once: strangers without a key, who may ask for them, keep nobody else from being answered."""
    with running(base_folder, "memory://", answers_budget=BUDGET, write_seconds=600) as site, ExitStack() as stack:
        before = connections(site)
        for _ in range(4 * CLIENTS):
            assert stack.enter_context(not_reading(site, get(LARGE))).recv(1)
        with connect(site.url) as last:
            last.sendall(LONG)
            assert status(read_answer(last)) == 200
        assert connections(site) >= before + 4 * CLIENTS


@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_many_that_do_not_read_large_answers_are_not_all_waited_for(base_folder: Path, parser: str) -> None:
    """Most are cut off before their time is up, and who reads has its answer."""
    with (
        running(base_folder, "memory://", http_parser=parser, answers_budget=BUDGET, write_seconds=600) as site,
        ExitStack() as stack,
    ):
        size = len(site.http.post("/tokenize", json=json.loads(LONG.partition(b"\r\n\r\n")[2])).content)
        before = connections(site)
        for _ in range(CLIENTS):
            stack.enter_context(not_reading(site, LONG))
        until(lambda: connections(site) <= before + BUDGET // (size - FREE_BYTES), "most are cut off")
        with connect(site.url) as last:
            last.sendall(LONG)
            assert status(read_answer(last)) == 200
