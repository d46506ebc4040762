"""Ten times more than the server can do: what it still does, how soon the rest is told, what a quiet key feels.

A real `softprompt serve` on loopback, three keys. The clients share the machine with it. As many
requests are kept in flight as make it busiest; then so many times that rate comes, whether anything is answered or not,
by one key and by two; meanwhile a third key asks with few requests at a time. Before, between and after the floods it
is the busiest again: a machine that others use is not the same from one minute to the next.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import httpx

from benchmarks.crowd import OK, Crowd, Outcome, Question, spread
from benchmarks.order import Launch, Order
from benchmarks.processor import Stopwatch
from benchmarks.prompts import prompt_file
from benchmarks.report import Chart, Found, charted, gathered
from benchmarks.serving import SECONDS, resident, running
from benchmarks.workload import workload
from prompt_store.base import read_base
from server.config import Settings
from server.heap import settle

REPEATS = 1
ADMIN = "admin-key-0123456789"
LOUD, SECOND, QUIET = ("loud-one-0123456789", "loud-two-0123456789", "quiet-key-0123456789")
TASKS = ("intent", "domain", "dialogue", "restaurant")
BUSIEST, FEW_BUSY, FEW = 64, 16, 4
LENGTHS = range(8, 57)
"""Tokens of an answer, any of them as often: answers of one length end in waves, and a newcomer waits for the next."""
REFUSED = (429, 503)
MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """`times` the busiest rate for `seconds`, after a third of that which does not count. `embedded`: of that base.

    `waiting`: requests that may wait in all; `busiest`: those in flight that make it so. A short run has time for few.
    """

    times: float
    seconds: float
    embedded: bool
    waiting: int = Settings.model_fields["max_waiting"].default
    busiest: int = BUSIEST


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=float, default=10.0, help="what comes, over what can be done")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each overload")
    parser.add_argument("--embedded", action="store_true", help="of the embedded base, so small that HTTP costs more")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """One server a repeat."""
    plan = Plan(given.times, given.seconds, given.embedded)
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
            return asyncio.run(_crowds(served.url, served.pid, plan))


def _publish(url: str, order: Order) -> None:
    """The embedded base comes with its tasks; another has as many, under the same names."""
    checkpoint = Path(order.checkpoint)
    base = read_base(checkpoint)
    for index, task in enumerate(TASKS):
        file = prompt_file("embeddings", order.workload.length, index, base, checkpoint)
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/octet-stream"}
        httpx.put(f"{url}/tasks/{task}", content=file.data, headers=headers, timeout=SECONDS).raise_for_status()


async def _crowds(url: str, pid: int, plan: Plan) -> dict[str, Any]:
    loud, second, quiet = (_questions(url, key) for key in (LOUD, SECOND, QUIET))
    seconds, warm = plan.seconds, plan.seconds / 3
    spent: dict[str, dict[str, float]] = {}
    with closing(Crowd(url)) as crowd, closing(Crowd(url)) as beside:

        async def busiest() -> Outcome:
            with _counted(spent, "at the busiest", pid):
                return await crowd.closed_loop(loud, plan.busiest, seconds, warm)

        peaks = [await busiest()]
        alone = await beside.closed_loop(quiet, FEW, seconds / 2, warm / 2)
        shared, among = await asyncio.gather(
            crowd.closed_loop(loud, plan.busiest, seconds, warm), beside.closed_loop(quiet, FEW, seconds, warm)
        )
        rate, before = plan.times * peaks[0].statuses[OK] / peaks[0].seconds, resident(pid)
        found: dict[str, Any] = {
            "quiet_alone": _told(alone), "quiet_among_busy": _told(among), "busy": _told(shared),
        }  # fmt: skip
        for name, asked in (("one key", loud), ("two keys", [*loud, *second])):
            with _counted(spent, f"flooded by {name}", pid):
                flood, felt = await asyncio.gather(
                    crowd.open_loop(asked, rate, seconds, warm), beside.closed_loop(quiet, FEW, seconds, warm)
                )
            found[name] = {"flood": _told(flood), "quiet": _told(felt), "resident": resident(pid)}
            peaks.append(await busiest())
    found |= {"peaks": [_told(peak) for peak in peaks], "spent": spent, "rate": rate, "resident_before": before}
    return {**found, "base": "embedded" if plan.embedded else "135M"}


@contextmanager
def _counted(spent: dict[str, dict[str, float]], name: str, pid: int) -> Iterator[None]:
    """Who had the cores and who waited for one; of a crowd that comes again, the last time."""
    server, clients = Stopwatch(pid), Stopwatch(os.getpid())
    yield
    own = clients.read()
    ran, waited = (sum(own[f"{who}_{what}"] for who in ("main", "others")) for what in ("ran", "waited"))
    spent[name] = {**server.read(), "clients_ran": ran, "clients_waited": waited}


def _questions(url: str, key: str) -> list[Question]:
    """Short inputs of several tasks in turn."""
    draw, asked = Random(1), [(task, number) for number in range(25) for task in TASKS]

    def question(task: str, number: int) -> Question:
        tokens = draw.choice(LENGTHS)
        parameters = {"max_new_tokens": tokens, "ignore_eos": True}
        body = {"task": task, "inputs": f"a short text, the {number}th", "parameters": parameters}
        return Question.of(url, json.dumps(body).encode(), tokens, key)

    return [question(*one) for one in asked]


def _told(outcome: Outcome) -> dict[str, Any]:
    """Rates and, in milliseconds, the 50th and 99th percentile and the longest of what was answered and refused."""
    refused = [seconds for status in REFUSED for seconds in outcome.took.get(status, [])]
    return {
        "tokens_per_second": outcome.tokens / outcome.seconds,
        "statuses": {str(status): count for status, count in sorted(outcome.statuses.items())},
        "answered_ms": spread(outcome.took.get(OK, [])),
        "refused_ms": spread(refused),
        "without_patience": outcome.patience.count(None),
        "longest_patience": max((one for one in outcome.patience if one is not None), default=None),
        "unsent": outcome.unsent,
    }


COLUMNS = {
    "main_ran": "the loop's",
    "main_waited": "the loop waiting",
    "others_ran": "the engine's",
    "others_waited": "the engine waiting",
    "clients_ran": "the clients'",
    "clients_waited": "the clients waiting",
}
FLOODS = ("one key", "two keys")


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Goodput, how soon a refusal comes, the quiet key's seconds beside a busy neighbour's; memory; the cores."""
    goodput = gathered(
        pair
        for run in runs
        for pair in (
            *(("at the busiest", "tokens/s", peak["tokens_per_second"]) for peak in run["peaks"]),
            *((f"flooded by {name}", "tokens/s", _all_tokens(run[name])) for name in FLOODS),
        )
    )
    refused = gathered(
        (f"flooded by {name}", at, value)
        for run in runs
        for name in FLOODS
        for at, value in run[name]["flood"]["refused_ms"].items()
    )
    quiet = gathered(
        (label, at, value)
        for run in runs
        for label, told in (
            ("alone", run["quiet_alone"]),
            ("beside a busy key", run["quiet_among_busy"]),
            *((f"flooded by {name}", run[name]["quiet"]) for name in FLOODS),
        )
        for at, value in told["answered_ms"].items()
    )
    return [
        charted(
            "output tokens/s",
            "",
            goodput,
            best=fmean,
            ratio="over the busiest",
            reference=lambda *_: ("at the busiest", "tokens/s"),
        ),
        charted("milliseconds to a refusal", "of all refusals", refused, best=min),
        charted(
            "milliseconds to a quiet key's answer",
            "of all its answers",
            quiet,
            best=min,
            ratio="over beside a busy key",
            reference=lambda _, column: ("beside a busy key", column),
        ),
        charted("MiB of memory more than before", "", _memory(runs), best=min),
        charted("seconds of a core a second", "of whom", _cores(runs), best=fmean),
    ]


def _memory(runs: Sequence[Mapping[str, Any]]) -> Found:
    return gathered(
        (f"after the flood of {name}", "MiB", (run[name]["resident"] - run["resident_before"]) / MEGABYTE)
        for run in runs
        for name in FLOODS
    )


def _cores(runs: Sequence[Mapping[str, Any]]) -> Found:
    return gathered(
        (who, COLUMNS[column], value)
        for run in runs
        for who, told in run["spent"].items()
        for column, value in told.items()
    )


def _all_tokens(run: Mapping[str, Any]) -> float:
    return float(run["flood"]["tokens_per_second"] + run["quiet"]["tokens_per_second"])


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What came, and how it was answered."""
    last = runs[-1]
    return {
        "requests a second": round(last["rate"]),
        "statuses": {name: last[name]["flood"]["statuses"] for name in FLOODS},
        "quiet key's statuses": {name: last[name]["quiet"]["statuses"] for name in FLOODS},
        "refusals without Retry-After": sum(last[name]["flood"]["without_patience"] for name in FLOODS),
        "longest Retry-After": max(last[name]["flood"]["longest_patience"] or 0 for name in FLOODS),
        "cores": os.cpu_count(),
        "base": last["base"],
    }
