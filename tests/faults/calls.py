"""Every call of every operation killed once, or made to fail once, by strace.

`python -m tests.faults.calls --inject signal=KILL` prints a line of JSON a call.
"""

import argparse
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.faults.operations import OPERATIONS
from tests.faults.oracle import Answer, lost
from tests.faults.outcome import MEMORY, Outcome, tell
from tests.faults.subject import ACKNOWLEDGED, UNTYPED, Ending, Subject, points, subject

KILL = "signal=KILL"
KILLED: Mapping[str, str] = {"delete": "P2", "rollback": "P3", "start": "P4", "collect": "P4"}
"""Rows of operations that are killed; the others show P1."""
FAILED: Mapping[str, str] = {
    "error=ENOSPC": "D1",
    "error=EDQUOT": "D10",
    "error=EIO": "D3",
    "error=EMFILE": "D5",
    "error=EACCES": "D5",
    "error=EROFS": "D5",
}
FULL = {"error=ENOSPC", "error=EDQUOT"}
ANSWERS: Mapping[str, Answer] = {
    ACKNOWLEDGED: "acknowledged",
    "StoreFull": "refused",
    "StoreRefuses": "refused",
    "StoreUnavailable": "refused",
}
DIRECTORY = "D4"
CLOSE = re.compile(r" close\(|<\.\.\. close resumed>")
"""Of a call that another thread's came between, strace writes the end on a line of its own."""


def swept(subject: Subject, operation: str, inject: str, folder: Path) -> Iterator[Outcome]:
    """One operation, a call at a time."""
    for what, root, ending in points(subject, operation, inject, folder):
        broken = lost(root, OPERATIONS[operation], ANSWERS.get(ending.said, "none"))
        yield Outcome(_row(operation, inject, ending), f"{what} {inject}", broken or _ill(inject, ending))


def _row(operation: str, inject: str, ending: Ending) -> str:
    if inject == KILL:
        return KILLED.get(operation, "P1")
    return DIRECTORY if ending.said == "OutcomeUnknown" else FAILED[inject]


def _ill(inject: str, ending: Ending) -> str | None:
    """What a call that failed did to the process that made it."""
    if inject == KILL:
        return None if ending.killed else "not killed"
    failed = next(line for line in ending.calls if "(INJECTED)" in line)
    if ending.said == UNTYPED:
        return "the error has no type of the store's"
    if ending.said == "StoreFull" and inject not in FULL:
        return "not full, and said to be"
    if ending.leaked and not CLOSE.search(failed):  # a close that is not made is the injection's doing
        return f"{ending.leaked} files left open"
    if " fsync(" in failed and _fsyncs(ending, _path(failed)) > 1:
        return "a failed fsync was tried again"
    return None


def _path(call: str) -> str:
    """`123 fsync(5</path>) = ...`, as strace writes it."""
    return call.split("<", 1)[1].split(">", 1)[0]


def _fsyncs(ending: Ending, path: str) -> int:
    """From the one that failed on."""
    at = next(number for number, line in enumerate(ending.calls) if "(INJECTED)" in line)
    return sum(" fsync(" in line and _path(line) == path for line in ending.calls[at:])


def _all(subject: Subject, injects: Sequence[str], operations: Sequence[str], folder: Path) -> Iterator[Outcome]:
    for inject in injects:
        for operation in operations:
            place = folder / f"{inject}-{operation}".replace(" ", "-")
            place.mkdir()
            yield from swept(subject, operation, inject, place)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inject", nargs="+", choices=[KILL, *FAILED], default=[KILL, *FAILED])
    parser.add_argument("--operations", nargs="+", choices=[*OPERATIONS], default=[*OPERATIONS])
    given = parser.parse_args(arguments)
    logging.disable()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, subject(Path(folder)) as waiting:
        tell(_all(waiting, given.inject, given.operations, Path(folder)), sys.maxsize)


if __name__ == "__main__":
    main(sys.argv[1:])
