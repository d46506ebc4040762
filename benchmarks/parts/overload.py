"""Ten times more than the server can do: what it still does, how soon the rest is told, what a quiet key feels.

A real `softprompt serve` on loopback, three keys. The clients share the machine with it. As many
requests are kept in flight as make it busiest; then so many times that rate comes, whether anything is answered or not,
by one key and by two; meanwhile a third key asks with few requests at a time. Before, between and after the floods it
is the busiest again: a machine that others use is not the same from one minute to the next.
"""

import argparse
import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx

from benchmarks.floods import FLOODS, LOUD, QUIET, SECOND, TASKS, Plan, crowds
from benchmarks.order import Launch, Order
from benchmarks.prompts import prompt_file
from benchmarks.report import Chart, Found, charted, gathered
from benchmarks.serving import SECONDS, running
from benchmarks.workload import workload
from prompt_store.base import read_base
from server.heap import settle

REPEATS = 1
ADMIN = "admin-key-0123456789"
FEW_BUSY = 16
MEGABYTE = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=float, default=10.0, help="what comes, over what can be done")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each flood")
    parser.add_argument("--rounds", type=int, default=1, help="of each flood, each between two peaks")
    parser.add_argument("--embedded", action="store_true", help="of the embedded base, so small that HTTP costs more")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """One server a repeat."""
    plan = Plan(given.times, given.seconds, given.rounds, given.embedded)
    if given.tiny:
        plan = replace(plan, seconds=1.5, waiting=2 * FEW_BUSY, busiest=FEW_BUSY)
    return [Launch("server", Order.of(given, workload(tiny=given.tiny), plan).to_json())]


def measure(order: Order) -> dict[str, Any]:
    """Each crowd in turn, on one server."""
    settle()  # the clients' own pauses would be taken for the server's
    plan = Plan(**order.plan)
    keys = {"SOFTPROMPT_API_KEY": f"{LOUD},{SECOND},{QUIET}", "SOFTPROMPT_ADMIN_KEY": ADMIN, "SOFTPROMPT_JOBS": ""}
    keys["SOFTPROMPT_MAX_WAITING"] = str(plan.waiting)
    with tempfile.TemporaryDirectory() as store:
        options = ("--port", "0", "--store", store, "--threads", str(order.threads))
        base = () if plan.embedded else ("--model", order.checkpoint)
        with running(*options, *base, **keys) as served:
            if not plan.embedded:
                _publish(served.url, order)
            return asyncio.run(crowds(served.url, served.pid, plan))


def _publish(url: str, order: Order) -> None:
    """The embedded base comes with its tasks; another has as many, under the same names."""
    checkpoint = Path(order.checkpoint)
    base = read_base(checkpoint)
    for index, task in enumerate(TASKS):
        file = prompt_file("embeddings", order.workload.length, index, base, checkpoint)
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/octet-stream"}
        httpx.put(f"{url}/tasks/{task}", content=file.data, headers=headers, timeout=SECONDS).raise_for_status()


COLUMNS = {
    "main_ran": "the loop's",
    "main_waited": "the loop waiting",
    "others_ran": "the engine's",
    "others_waited": "the engine waiting",
    "clients_ran": "the clients'",
    "clients_waited": "the clients waiting",
}


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Goodput, how soon a refusal comes, the quiet key's seconds beside a busy neighbour's; memory; the cores.

    The mean of the rounds, which one quick one would make look better than they are.
    """
    return [
        charted(
            "output tokens/s",
            "",
            _goodput(runs),
            best=fmean,
            ratio="over the busiest",
            reference=lambda *_: ("at the busiest", "tokens/s"),
        ),
        charted("goodput over the mean of the peaks before and after", "", _kept(runs), best=fmean),
        charted("milliseconds to a refusal", "of all refusals", _refused(runs), best=fmean),
        charted(
            "milliseconds to a quiet key's answer",
            "of all its answers",
            _quiet(runs),
            best=fmean,
            ratio="over beside a busy key",
            reference=lambda _, column: ("beside a busy key", column),
        ),
        charted("MiB of memory more than before", "", _memory(runs), best=fmean),
        charted("seconds of a core a second", "of whom", _cores(runs), best=fmean),
    ]


def _goodput(runs: Sequence[Mapping[str, Any]]) -> Found:
    peaks = (("at the busiest", "tokens/s", _tokens(peak)) for run in runs for peak in run["peaks"])
    return gathered((*peaks, *((_row(flood), "tokens/s", _all_tokens(flood)) for _, flood in _floods(runs))))


def _kept(runs: Sequence[Mapping[str, Any]]) -> Found:
    """A machine that others use changes: a flood is compared with the peaks on either side of it."""
    return gathered(
        (_row(flood), "goodput", _all_tokens(flood) / fmean(map(_tokens, run["peaks"][turn : turn + 2])))
        for run in runs
        for turn, flood in enumerate(run["floods"])
    )


def _refused(runs: Sequence[Mapping[str, Any]]) -> Found:
    return gathered(
        (_row(flood), at, value) for _, flood in _floods(runs) for at, value in flood["flood"]["refused_ms"].items()
    )


def _quiet(runs: Sequence[Mapping[str, Any]]) -> Found:
    unflooded = (
        (label, run[name])
        for run in runs
        for label, name in (("alone", "quiet_alone"), ("beside a busy key", "quiet_among_busy"))
    )
    told = (*unflooded, *((_row(flood), flood["quiet"]) for _, flood in _floods(runs)))
    return gathered((row, at, value) for row, one in told for at, value in one["answered_ms"].items())


def _memory(runs: Sequence[Mapping[str, Any]]) -> Found:
    return gathered(
        (_row(flood), "MiB", (flood["resident"] - run["resident_before"]) / MEGABYTE) for run, flood in _floods(runs)
    )


def _cores(runs: Sequence[Mapping[str, Any]]) -> Found:
    return gathered(
        (who, COLUMNS[column], value)
        for run in runs
        for who, told in run["spent"].items()
        for column, value in told.items()
    )


def _floods(runs: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each with the run that it is of."""
    return [(run, flood) for run in runs for flood in run["floods"]]


def _row(flood: Mapping[str, Any]) -> str:
    return f"flooded by {flood['by']}"


def _tokens(told: Mapping[str, Any]) -> float:
    return float(told["tokens_per_second"])


def _all_tokens(flood: Mapping[str, Any]) -> float:
    return _tokens(flood["flood"]) + _tokens(flood["quiet"])


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What came, and how it was answered."""
    floods = [flood for _, flood in _floods(runs)]
    return {
        "requests a second": round(runs[-1]["rate"]),
        "statuses": _statuses(floods, "flood"),
        "quiet key's statuses": _statuses(floods, "quiet"),
        "refusals without Retry-After": sum(flood["flood"]["without_patience"] for flood in floods),
        "longest Retry-After": max(flood["flood"]["longest_patience"] or 0 for flood in floods),
        "cores": os.cpu_count(),
        "base": runs[-1]["base"],
    }


def _statuses(floods: Sequence[Mapping[str, Any]], whose: str) -> dict[str, dict[str, int]]:
    """Of all rounds."""
    counted = {name: Counter[str]() for name in FLOODS}
    for flood in floods:
        counted[flood["by"]].update(flood[whose]["statuses"])
    return {name: dict(counts) for name, counts in counted.items()}
