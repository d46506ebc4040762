"""Power cuts: a store on a file system of its own, cut off at every step of every operation and at random under load.

`python -m tests.faults.power --fs xfs --cuts 100`, under PRIVATE of tests/faults/mounts.py, prints a line of JSON a
cut; with `--without` fsyncs, until something is lost.
"""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from tests.faults.crowd import Crowd
from tests.faults.failpoints import Without, before_call, without_fsync
from tests.faults.mounts import LOG_KEPT, LOG_LOST, FileSystem, Image, cut, tmpfs
from tests.faults.operations import OPERATIONS
from tests.faults.oracle import Answer, lost
from tests.faults.outcome import Outcome, tell

ROWS = {"first": "W4", "new task": "W4", "delete": "W3", "collect": "W5"}
"""What is shown by a cut after the acknowledgement; the others show W1, and every cut before it W2, or W5."""
WRITERS, PROCESSES = 8, 2
IN_A_CROWD = 20
"""Cuts under load after each round of cuts by step."""
SURVIVED, CUT = 0, 1
"""Who is cut off has told nobody anything, whatever its last calls return: XFS answers some of them with success."""


def by_step(image: Image, sweep: int, without: Without | None) -> Iterator[Outcome]:
    """Before each call of each operation, and after its acknowledgement."""
    for name, operation in OPERATIONS.items():
        for number in count(1):
            how = LOG_LOST if (number + sweep) % 2 else LOG_KEPT
            root = image.at / f"{sweep}-{name.replace(' ', '-')}-{number}"
            if operation.before is not None:
                operation.before(root)
            ended = _cut_at(number, partial(cut, image.at, how), partial(operation.run, root), without)
            if ended == SURVIVED:
                how = LOG_LOST
                cut(image.at, how)
            image.remount()
            row = ROWS.get(name, "W1") if ended == SURVIVED or name == "collect" else "W2"
            answer: Answer = "acknowledged" if ended == SURVIVED else "none"
            yield Outcome(row, f"{name}: before call {number}, log {_log(how)}", lost(root, operation, answer))
            shutil.rmtree(root)
            if ended == SURVIVED:
                break


def _cut_at(number: int, cut: Callable[[], None], run: Callable[[], None], without: Without | None) -> int:
    """By the process itself, so that nothing comes between; SURVIVED when it made fewer calls."""
    pid = os.fork()
    if not pid:
        if without is not None:
            without_fsync(without)

        def end() -> None:
            cut()
            os._exit(CUT)

        before_call(number, end)
        run()
        os._exit(SURVIVED)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_a_crowd(image: Image, seed: int, without: Without | None) -> Iterator[Outcome]:
    """Eight writers of two processes, cut off at any moment."""
    root = image.at / f"crowd-{seed}"
    draw = Random(seed)
    crowd = Crowd(root, seed, before=None if without is None else lambda: without_fsync(without))
    for number in range(IN_A_CROWD):
        how = draw.choice((LOG_LOST, LOG_KEPT))
        with crowd.at_work(PROCESSES, WRITERS // PROCESSES) as work:
            work.hear(draw.randint(1, 60))
            work.deaf_from(time.monotonic())
            cut(image.at, how)
        image.remount()
        yield Outcome("W6", f"crowd {seed}: cut {number}, log {_log(how)}", crowd.ledger.lost())
    shutil.rmtree(root)


def _log(how: int) -> str:
    return {LOG_LOST: "lost", LOG_KEPT: "kept"}[how]


def cuts(image: Image, seed: int, without: Without | None) -> Iterator[Outcome]:
    """Without end."""
    for number in count(seed):
        yield from by_step(image, number, without)
        yield from in_a_crowd(image, number, without)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fs", choices=("xfs", "ext4"), required=True)
    parser.add_argument("--cuts", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", choices=("file", "folders", "all"))
    given = parser.parse_args(arguments)
    logging.disable()
    kind: FileSystem = given.fs
    with tempfile.TemporaryDirectory() as folder, tmpfs(Path(folder) / "memory", "size=1g") as memory:
        image = Image(memory, kind)
        image.mount()
        try:
            tell(cuts(image, given.seed, given.without), given.cuts, until_lost=given.without is not None)
        finally:
            image.unmount()


if __name__ == "__main__":
    main(sys.argv[1:])
