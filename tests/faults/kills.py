"""kill -9 at random moments: processes of many writers on one store directory, killed together or one of the two.

`python -m tests.faults.kills --kills 100` prints a line of JSON a kill.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

from tests.faults.crowd import Crowd
from tests.faults.outcome import Outcome, tell

PROCESSES, THREADS = 2, 4
IN_A_STORE = 25
"""Kills until a new store is begun: a change reads the last hundred versions of its task."""
LINES = 120
"""Most things said before a kill."""


def kills(folder: Path, seed: int) -> Iterator[Outcome]:
    """Without end; every other time one process of the two goes on."""
    draw = Random(seed)
    for store in count(seed):
        crowd = Crowd(folder / f"store-{store}", store)
        for number in range(IN_A_STORE):
            alone = number % 2 == 1
            with crowd.at_work(PROCESSES, THREADS) as work:
                work.hear(draw.randint(1, LINES))
                if alone:
                    os.kill(next(iter(work.processes)), signal.SIGKILL)
                    work.hear(draw.randint(1, LINES))
                work.kill()
            yield Outcome("P9" if alone else "P8", f"store {store}: kill {number}", crowd.ledger.lost())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        tell(kills(Path(folder), given.seed), given.kills)


if __name__ == "__main__":
    main(sys.argv[1:])
