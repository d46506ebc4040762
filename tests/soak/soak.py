"""The soak itself: a real server, clients in stretches of so many requests, a rest after each.

Knows how to go on; not what is asked, nor what its figures should be.
"""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.machine import commit
from tests.e2e.process import Process
from tests.soak.changes import first
from tests.soak.client import MOST_WRONG, Client, Heard
from tests.soak.mix import Act, act
from tests.soak.sample import look, rest
from tests.soak.slopes import Point
from tests.soak.state import Plan, State, load

SMALL = {
    "SOFTPROMPT_KV_BUDGET": "64M",
    "SOFTPROMPT_PROMPT_BUDGET": "4M",
    "SOFTPROMPT_TEXT_BUDGET": "4M",
}
"""Budgets that are full long before the second half: what fills them is no leak."""
START_SECONDS = 600.0
"""A soak begins beside whatever else a machine does."""
QUIET = frozenset({"info", "debug"})
NO_NEWS = frozenset({"Invalid HTTP request received."})
"""uvicorn's words for what is no HTTP."""
Said = Callable[[State], None]


def begun(folder: Path, plan: Plan) -> State:
    """What is left to go on with, or a new one in an empty folder."""
    try:
        state = load(folder / "state.json")
    except FileNotFoundError:
        state = None
    if state is not None and state.plan == plan and not state.over:
        return state
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return State(plan)


def soak(state: State, folder: Path, seconds: float, said: Said, under: Sequence[str] = ()) -> None:
    """Until all is asked, so much time has passed, or too much is wrong. `said` hears of every rest.

    `under`: a command that starts the server.
    """
    end = time.monotonic() + seconds
    store = folder / "store"
    with _server(store, under) as (process, http):
        number = len(state.starts)
        state.starts.append((state.done, commit()))
        port = httpx.URL(process.url).port or 0
        _stretch(state, port, [Act("first", [call]) for call in first()])
        state.points.append(Point(number, state.done, look(process, http, store)))
        while not state.over and time.monotonic() < end and len(state.wrong) <= MOST_WRONG:
            began = time.monotonic()
            upto = min(state.done + state.plan.every, state.plan.requests)
            _stretch(state, port, [act(state.plan.seed, n) for n in range(state.done, upto)])
            state.seconds += time.monotonic() - began
            state.done = upto
            before = state.points[-1].values
            state.points.append(Point(number, state.done, rest(process, http, store, before)))
            _read_log(process, state)
            state.save(folder / "state.json")
            said(state)


@contextmanager
def _server(store: Path, under: Sequence[str]) -> Iterator[tuple[Process, httpx.Client]]:
    process = Process("--store", str(store), under=under, **SMALL)
    try:
        with process.wait_until_ready(patience=START_SECONDS) as http:
            process.other.clear()  # what it says of itself
            yield process, http
    finally:
        code = process.end()
    assert code == 0, process.other


def _stretch(state: State, port: int, acts: Sequence[Act]) -> None:
    """All of `acts`, by so many clients, which are all gone afterwards."""
    heard = Heard()

    async def everybody() -> None:
        left = iter(acts)
        async with asyncio.TaskGroup() as group:
            for _ in range(state.plan.clients):
                group.create_task(Client(port, heard).each(left))

    asyncio.run(everybody())
    state.outcomes.update(heard.outcomes)
    state.wrong.extend(heard.wrong)


def _read_log(process: Process, state: State) -> None:
    """Bad input is no news; whatever else stands above `info` is wrong. Read once, so that it does not pile up here."""
    told = [entry["event"] for entry in process.log if entry["level"] not in QUIET]
    odd = Counter(event for event in told if event not in NO_NEWS)
    state.wrong.extend(f"logged {number} times: {event}" for event, number in odd.items())
    process.log.clear()
    state.wrong.extend(f"printed: {line.strip()}" for line in process.other)
    process.other.clear()
