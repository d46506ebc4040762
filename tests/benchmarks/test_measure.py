"""Measuring: every peer does the same work, and an answer of another length is no result."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.measure import Order, measure, timed
from benchmarks.workload import TINY, Job

PEFT_WARNINGS = ("ignore::FutureWarning:transformers", "ignore:Position ids are not supported:UserWarning:peft")


class ShortPeer:
    """Answers one id too few."""

    def generate(self, jobs: Sequence[Job], _concurrency: int) -> list[list[int]]:
        return [[0] * (TINY.new_tokens - 1) for _ in jobs]


def order(peer: str, folder: Path) -> Order:
    return Order(peer, str(TINY.shape.write(folder)), TINY, (1, 4), (8, 8), 1)


@pytest.mark.filterwarnings(*PEFT_WARNINGS)
@pytest.mark.parametrize("peer", ["engine", "peft"])
def test_peers_answer_alike(peer: str, tmp_path: Path) -> None:
    """The engine and PEFT begin every answer with the id that a static batch begins it with, alone and in batches."""
    results = [measure(order(name, tmp_path)) for name in ("static", peer)]
    expected, found = ([timing["first_ids"] for timing in result["timings"]] for result in results)
    assert found == expected
    assert len(set(map(tuple, expected))) == 1


def test_a_short_answer_is_refused() -> None:
    """A peer that generates less than asked for is not measured."""
    with pytest.raises(ValueError, match="other than"):
        timed(ShortPeer(), TINY.jobs(2), 1, TINY.new_tokens)


def test_an_order_survives_its_process() -> None:
    """What the measuring process reads is what was ordered."""
    given = Order("engine", "folder", TINY, (1,), (8,), 1)
    read = Order.from_json(given.to_json())
    assert (read.workload, list(read.concurrency)) == (TINY, [1])
