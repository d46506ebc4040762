"""`make soak`: so many requests of every sort against a real server, and whether it is afterwards what it was before.

Goes on where a killed or timed-out run stopped. Ends with 1 where something was broken, 2 where requests are left.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.order import ROOT
from tests.soak.report import write
from tests.soak.soak import begun, soak
from tests.soak.state import Plan, State

RESULTS = Path(__file__).parent / "results"
WHOLE = 100_000
"""Requests: a soak of fewer is no record."""


def say(state: State) -> None:
    """A line a rest."""
    now, rate = state.points[-1].values, state.done / state.seconds
    left = timedelta(seconds=round((state.plan.requests - state.done) / rate))
    sys.stdout.write(
        f"{state.done:,} of {state.plan.requests:,}, {rate:.1f} a second, {left} left: {now['memory'] / 1e6:.1f} MB, "
        f"{now['fds']:.0f} fds, {now['threads']:.0f} threads, {now['tasks']:.0f} tasks, {len(state.wrong)} wrong\n"
    )
    sys.stdout.flush()


def ends_with_us() -> Sequence[str]:
    """What starts a server that is gone when this is killed."""
    return ("setpriv", "--pdeathsig", "KILL") if sys.platform == "linux" and shutil.which("setpriv") else ()


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=WHOLE)
    parser.add_argument("--minutes", type=float, default=90.0, help="at most; the same command goes on")
    parser.add_argument("--every", type=int, help="requests between two rests; default a two hundredth, 25 at least")
    parser.add_argument("--clients", type=int, default=8, help="at once")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn")
    parser.add_argument("--at", type=Path, default=ROOT / "build" / "soak", help="folder to go on in")
    where = "folder for soak.json, soak.md and soak.svg; results/ for a whole soak, else where --at says"
    parser.add_argument("--out", type=Path, help=where)
    given = parser.parse_args(words)
    every = given.every or max(25, given.requests // 200)
    state = begun(given.at, Plan(given.requests, every, given.clients, given.seed))
    soak(state, given.at, given.minutes * 60, say, ends_with_us())
    out = given.out or (RESULTS if state.over and state.plan.requests >= WHOLE else given.at)
    broken = write(state, machine(1, words, program="tests.soak"), out)
    sys.stdout.write("".join(f"broken: {one}\n" for one in broken))
    sys.stdout.write(f"{out / 'soak'}.json, .md and .svg are written\n")
    if broken:
        return 1
    return 0 if state.over else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
