"""`make bench`: the mixed workload on the engine and on its peers, all in one run on one machine.

The peers take turns, each in a process of its own, `--repeats` times; the best of a peer's repeats counts. Ends in one
machine-readable line.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import Order
from benchmarks.report import agreement, best, ratios, table, write
from benchmarks.workload import TINY, Workload

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--peers", nargs="+", default=["engine", "static", "peft"])
    parser.add_argument("--sketch", help="file of a one-file engine, measured as the peer `sketch`")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32, 64])
    parser.add_argument("--waves", type=int, default=2, help="requests per run, in multiples of the concurrency")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--name", default="mixed-tasks")
    parser.add_argument("--tiny", action="store_true", help="a toy base, to see that everything runs")
    return parser.parse_args()


def run(order: Order) -> dict[str, Any]:
    """One peer's figures. Its process inherits the environment, LD_PRELOAD included."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure", order.to_json()],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        cwd=HERE.parent,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine(threads: int) -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in _lines(cpu) if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "threads": threads,
        "python": platform.python_version(),
        "preloaded": bool(os.environ.get("LD_PRELOAD")),
        "commit": commit(),
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
    }


def commit() -> str:
    """The checkout's, with a plus when files differ from it; "unknown" outside of one."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],  # noqa: S607 - whichever git the user has
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
            cwd=HERE,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def main() -> None:
    given = arguments()
    workload = TINY if given.tiny else Workload()
    checkpoint = workload.shape.write(HERE.parent / "build" / "benchmarks")
    names = [*given.peers, *(["sketch"] if given.sketch and "sketch" not in given.peers else [])]
    runs: list[dict[str, Any]] = []
    for _ in range(given.repeats):
        for peer in names:
            requests = tuple(max(8, c * (1 if peer == "peft" else given.waves)) for c in given.concurrency)
            order = Order(
                peer, str(checkpoint), workload, tuple(given.concurrency), requests, given.threads, given.sketch
            )
            runs.append(run(order))
            sys.stdout.write(table(best(runs[-1:])))
    whole = {"machine": machine(given.threads), "workload": json.loads(order.to_json())["workload"], "runs": runs}
    write(whole, given.out, given.name)
    rates = best(runs)
    sys.stdout.write("\n" + table(rates))
    last = {"tokens_per_second": rates, "engine_over": ratios(rates), "same_first_id": agreement(runs)}
    sys.stdout.write(json.dumps(last) + "\n")


if __name__ == "__main__":
    main()
