"""`make bench`: one part of the benchmark, `mixed` unless another is named, all in one run on one machine.

A part is a question of its own (benchmarks/README.md). Whatever it measures runs in a process of its own, `--repeats`
times in turns; the best of the repeats counts, with their spread. Ends in one machine-readable line.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.measure import PARTS, Part
from benchmarks.order import ROOT
from benchmarks.report import figures, table, write

TOY = "; figures of a toy base mean nothing"


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Without a part's name in front it is `mixed`."""
    words = list(given)
    if not words or (words[0] not in PARTS and words[0] not in {"-h", "--help"}):
        words = ["mixed", *words]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        said = (getattr(part, "__doc__", "") or "").strip()
        below = parts.add_parser(
            name,
            help=said.splitlines()[0],
            description=said,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        below.add_argument(
            "--repeats", type=int, default=part.REPEATS, help="how often all of it is done; the best counts"
        )
        below.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each process, peers included")
        below.add_argument("--out", type=Path, help="default benchmarks/results; with --tiny build/tiny")
        below.add_argument("--name", default=name, help="of the files in --out")
        below.add_argument("--tiny", action="store_true", help="a toy base and few tasks, to see that everything runs")
        part.add_options(below)
    return parser.parse_args(words)


def run(part: Part, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Every process of every repeat, one after the other, each said when it is done."""
    runs = []
    for turn in range(given.repeats):
        for launch in part.launches(given, turn):
            runs.append(launch.run())
            sys.stdout.write(f"{given.part}, repeat {turn + 1} of {given.repeats}: {launch.label} is done\n")
            sys.stdout.flush()
    return runs


def main(words: Sequence[str]) -> None:
    given = arguments(words)
    part = PARTS[given.part]
    runs = run(part, given)
    charts, notes = part.charts(runs), part.notes(runs)
    whole = {"part": given.part, "machine": machine(given.threads, words), "notes": notes, "runs": runs}
    out = given.out or (ROOT / "build" / "tiny" if given.tiny else ROOT / "benchmarks" / "results")
    write(whole, charts, out, given.name)
    sys.stdout.write("\n" + "\n".join(map(table, charts)) + "\n")
    sys.stdout.write(f"{out / given.name}.md, .json and .svg are written" + (TOY if given.tiny else "") + "\n")
    sys.stdout.write(json.dumps({"part": given.part, "figures": figures(charts), "notes": notes}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
