"""What one fault did; and programs that try one fault after another and print a line of JSON for each."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice

from tests.checkout import ROOT

SHARED = "/dev/shm"  # noqa: S108 - in a folder that nobody can guess
MEMORY = SHARED if os.access(SHARED, os.W_OK) else None
"""Where a store lies whose fsyncs need not be real ones; None for wherever temporary files lie."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`row`: of README.md in this folder. `lost`: what the fault broke; None when every promise held."""

    row: str
    what: str
    lost: str | None


def tell(outcomes: Iterable[Outcome], most: int, *, until_lost: bool = False) -> None:
    """At most so many, on standard output, each as soon as it is known."""
    for outcome in islice(outcomes, most):
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()
        if until_lost and outcome.lost:
            break


@contextmanager
def telling(module: str, *options: str, under: Sequence[str] = ()) -> Iterator[Iterator[Outcome]]:
    """A program of this folder at work, and what it tells. It is stopped where it is not heard to its end."""
    command = [*under, sys.executable, "-m", f"tests.faults.{module}", *options]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # it forks, and threads are not forked
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as program:
        assert program.stdout is not None
        try:
            yield (Outcome(**json.loads(line)) for line in program.stdout)
        finally:
            program.terminate() if program.poll() is None else None
            program.communicate()


def told(module: str, *options: str, under: Sequence[str] = ()) -> list[Outcome]:
    """Everything that a program of this folder tells."""
    with telling(module, *options, under=under) as outcomes:
        return list(outcomes)
