"""`make fuzz`: an hour of being asked badly, in every way, on real servers. Ends with 1 on a violation.

`--case` draws one case again that a run has found. Ctrl-C ends the run; what was counted is written.
"""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.machine import machine
from benchmarks.order import ROOT
from tests.fuzz import bodies, templates, traces, wire
from tests.fuzz.cases import cases
from tests.fuzz.findings import Findings, write
from tests.fuzz.subject import Pace, subject

RESULTS = Path(__file__).parent / "results"
WHOLE_MINUTES = 60.0
"""Less is no record."""
Run = Callable[[Findings, Mapping[str, str], Iterator[str], Pace], None]


def alone(fuzz: Callable[..., None]) -> Run:
    """On one server, which is as it was in the end."""

    def run(findings: Findings, variables: Mapping[str, str], names: Iterator[str], pace: Pace) -> None:
        with subject(findings, variables, pace) as found:
            fuzz(found, findings, names)
            found.settle("end")

    return run


PARTS: Mapping[str, tuple[Run, float]] = {
    wire.PART: (alone(wire.fuzz), 0.3),
    bodies.PART: (alone(bodies.fuzz), 0.25),
    templates.PART: (alone(templates.fuzz), 0.1),
    traces.PART: (traces.run, 0.35),
}
"""Each with its share of the time."""


def played(part: str, variables: Mapping[str, str], names: Iterator[str], pace: Pace) -> Findings:
    """Whatever ends a part early is told as a violation too."""
    findings, began = Findings(part), time.monotonic()
    try:
        PARTS[part][0](findings, variables, names, pace)
    except Exception as error:  # noqa: BLE001 - the other parts go on, and what was found is written
        findings.claim(False, "end", f"{type(error).__name__}: {error}"[:2000])
    findings.most("seconds", time.monotonic() - began)
    return findings


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=WHOLE_MINUTES, help="of all parts together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--case", help="one case of the one part that --only names")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="variables of the server")
    where = "folder for fuzz.json and fuzz.md; results/ for a whole hour, else build/fuzz"
    parser.add_argument("--out", type=Path, help=where)
    given = parser.parse_args(words)
    out = given.out or (
        RESULTS if given.minutes >= WHOLE_MINUTES and given.only == [*PARTS] else ROOT / "build" / "fuzz"
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    variables = dict(pair.split("=", 1) for pair in given.set)
    whole = machine(1, words, program="tests.fuzz")
    here = {name: whole[name] for name in ("cpu", "cores", "python", "commit", "command")}
    shares, console, found, page = sum(PARTS[part][1] for part in given.only), Console(stderr=True), [], ""
    for part in given.only:
        seconds = 60 * given.minutes * PARTS[part][1] / shares
        console.print(f"{part}: {seconds:.0f} seconds")
        names = iter([given.case]) if given.case else cases(str(given.seed), seconds, stop)
        found.append(played(part, variables, names, Pace()))
        console.print(f"{part}: {found[-1].counts['violations']} violations")
        page = write(out, here, found)
        if stop.is_set():
            break
    sys.stdout.write(page)
    return int(any(one.violations for one in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
