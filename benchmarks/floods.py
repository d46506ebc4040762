"""What the clients of an overload do to one server: crowds in turn, each beside a quiet key, each peak beside a flood.

Knows keys, questions and clocks; not the server's command line, and no charts.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.crowd import OK, Crowd, Outcome, Question, spread
from benchmarks.processor import Stopwatch
from benchmarks.serving import resident
from server.config import Settings

LOUD, SECOND, QUIET = ("loud-one-0123456789", "loud-two-0123456789", "quiet-key-0123456789")
TASKS = ("intent", "domain", "dialogue", "restaurant")
FLOODS = ("one key", "two keys")
BUSIEST, FEW = 64, 4
LENGTHS = range(8, 57)
"""Tokens of an answer, any of them as often: answers of one length end in waves, and a newcomer waits for the next."""
REFUSED = (429, 503)


@dataclass(frozen=True, slots=True)
class Plan:
    """`times` the busiest rate for `seconds`, after a third of that which does not count; each flood so many `rounds`.
    `embedded`: of that base.

    `waiting`: requests that may wait in all; `busiest`: those in flight that make it so. A short run has time for few.
    """

    times: float
    seconds: float
    rounds: int
    embedded: bool
    waiting: int = Settings.model_fields["max_waiting"].default
    busiest: int = BUSIEST


async def crowds(url: str, pid: int, plan: Plan) -> dict[str, Any]:
    """A peak, the quiet key alone and beside it; then floods with a peak after each.

    `peaks` has one more than `floods`: a flood lies between two.
    """
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
        floods: list[dict[str, Any]] = []
        for name, asked in plan.rounds * list(zip(FLOODS, (loud, [*loud, *second]), strict=True)):
            with _counted(spent, f"flooded by {name}", pid):
                flood, felt = await asyncio.gather(
                    crowd.open_loop(asked, rate, seconds, warm), beside.closed_loop(quiet, FEW, seconds, warm)
                )
            floods.append({"by": name, "flood": _told(flood), "quiet": _told(felt), "resident": resident(pid)})
            peaks.append(await busiest())
    return {
        "quiet_alone": _told(alone),
        "quiet_among_busy": _told(among),
        "busy": _told(shared),
        "floods": floods,
        "peaks": [_told(peak) for peak in peaks],
        "spent": spent,
        "rate": rate,
        "resident_before": before,
        "base": "embedded" if plan.embedded else "135M",
    }


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
