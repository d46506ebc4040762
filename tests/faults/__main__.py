"""`make faults`: the long versions of the tests in this folder. Draws a bar, writes results/, ends with 1 on a loss."""

import argparse
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.machine import machine
from tests.faults.mounts import PRIVATE, mountable
from tests.faults.outcome import Outcome, telling

RESULTS = Path(__file__).parent / "results"
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A program of this folder, how often it is to break something, and under what it is started."""

    title: str
    module: str
    options: Sequence[str]
    faults: int
    under: Sequence[str] = ()


def parts(given: argparse.Namespace) -> Mapping[str, Part]:
    """Those that go on longest first."""
    cuts, kills, servers = (str(number) for number in (given.cuts, given.kills, given.servers))
    seed = ("--seed", str(given.seed))
    return {
        "xfs": Part("power cuts on XFS", "power", ("--fs", "xfs", "--cuts", cuts, *seed), given.cuts, PRIVATE),
        "ext4": Part("power cuts on ext4", "power", ("--fs", "ext4", "--cuts", cuts, *seed), given.cuts, PRIVATE),
        "kills": Part("random kills of writers", "kills", ("--kills", kills, *seed), given.kills),
        "servers": Part("random kills of a server", "service", ("--kills", servers, *seed), given.servers),
        "calls": Part("calls killed and failed", "calls", (), 2254),
    }


def heard(part: Part, advance: Callable[[], None]) -> tuple[list[Outcome], float]:
    """Everything one part told, and its seconds."""
    began, outcomes = time.monotonic(), []
    with telling(part.module, *part.options, under=part.under) as told:
        for outcome in told:
            outcomes.append(outcome)
            advance()
    return outcomes, time.monotonic() - began


def record(part: Part, outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    return {
        "title": part.title,
        "seconds": round(seconds, 1),
        "faults": dict(sorted(Counter(outcome.row for outcome in outcomes).items())),
        "lost": [asdict(outcome) for outcome in outcomes if outcome.lost],
    }


def page(found: Mapping[str, Any]) -> str:
    """The same for people."""
    rows = [
        f"| {each['title']} | {row} | {number:,} | {sum(lost['row'] == row for lost in each['lost'])} |"
        for each in found["parts"].values()
        for row, number in each["faults"].items()
    ]
    where = found["machine"]
    return "\n".join(
        [
            "# Faults",
            "",
            f"{_said(where)}. What a row is: [README](../README.md).",
            "",
            "| what | row | faults | losses |",
            "|---|---|---|---|",
            *rows,
            "",
            "Seconds: " + ", ".join(f"{each['title']} {each['seconds']:.0f}" for each in found["parts"].values()) + ".",
            "",
            f"`{where['command']}`",
            "",
        ]
    )


def _said(where: Mapping[str, Any]) -> str:
    cores, python = f"{where['cores']} cores", f"Python {where['python']}"
    return ", ".join([f"Linux {where['kernel']}", where["cpu"], cores, python, f"commit {where['commit']}"])


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000, help="power cuts of each file system")
    parser.add_argument("--kills", type=int, default=500, help="random kills of writers")
    parser.add_argument("--servers", type=int, default=25, help="random kills of a whole server")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn")
    parser.add_argument("--only", nargs="+", choices=["xfs", "ext4", "kills", "servers", "calls"], help="default all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for faults.json and faults.md")
    given = parser.parse_args(words)
    chosen = {name: part for name, part in parts(given).items() if not given.only or name in given.only}
    if not mountable():
        sys.stderr.write("power cuts are left out: file systems cannot be mounted here (Linux, as root)\n")
        chosen = {name: part for name, part in chosen.items() if not part.under}
    here = machine(1, words, program="tests.faults")
    kept = ("cpu", "cores", "python", "commit", "command")
    where = {name: here[name] for name in kept} | {"kernel": platform.release()}
    found = {"machine": where, "parts": run(chosen)}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "faults.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (given.out / "faults.md").write_text(page(found), encoding="utf-8")
    sys.stdout.write(page(found))
    return int(any(each["lost"] for each in found["parts"].values()))


def run(chosen: Mapping[str, Part]) -> dict[str, Any]:
    """Two at a time, each with its bar."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as bars,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        started = {
            name: pool.submit(heard, part, partial(bars.advance, bars.add_task(part.title, total=part.faults)))
            for name, part in chosen.items()
        }
        return {name: record(chosen[name], *each.result()) for name, each in started.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
