"""One measurement in a process of its own: `python -m benchmarks.measure '{"part": ..., ...}'`.

Its last line on stdout is the result as JSON. Knows which parts there are; no figures of any other process.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from benchmarks.order import Launch, Order
from benchmarks.parts import (
    freshness,
    http,
    jobs,
    learning,
    memory,
    mixed,
    overload,
    residency,
    rows,
    slow,
    space,
    step,
    store,
    sweep,
    tasks,
    weights,
)
from benchmarks.report import Chart


class Part(Protocol):
    """A question of its own. A module each."""

    REPEATS: int
    """How often it is asked unless the command says otherwise."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Those that this part alone has."""

    def launches(self, given: argparse.Namespace, turn: int, /) -> list[Launch]:
        """The processes of one repeat, in order; `turn` counts the repeats from 0."""

    def measure(self, order: Order) -> dict[str, Any]:
        """What one of those processes does."""

    def charts(self, runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
        """What all of them found."""

    def notes(self, runs: Sequence[Mapping[str, Any]], /) -> dict[str, Any]:
        """What is to be said besides."""


PARTS: Mapping[str, Part] = {
    "mixed": mixed,
    "tasks": tasks,
    "rows": rows,
    "residency": residency,
    "freshness": freshness,
    "http": http,
    "space": space,
    "step": step,
    "weights": weights,
    "learning": learning,
    "sweep": sweep,
    "jobs": jobs,
    "memory": memory,
    "store": store,
    "overload": overload,
    "slow": slow,
}


def measure(order: Order) -> dict[str, Any]:
    """The result of an order, with as many threads as it says."""
    torch.set_num_threads(order.threads)
    return PARTS[order.part].measure(order)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Order.from_json(sys.argv[1]))) + "\n")
