"""The mixed workload on one GPU, beside transformers' ways and the floor: `python -m benchmarks.gpu`.

Imports torch, transformers, safetensors and numpy alone, so that it runs where a GPU is and little else. What is
measured runs in a process of its own (`gpu_measure`); one that fails is told and ends nothing. Results are written
after each, so that a run that is cut short keeps what it had.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import commit
from benchmarks.order import BUILD, ROOT
from benchmarks.workload import TINY, Shape, Workload

SHAPES: Mapping[str, Shape] = {
    "1b": Shape(16, 2048, 32, 8, 8192, 128_256),
    "7b": Shape(32, 4096, 32, 8, 14_336, 32_000),
    "tiny": TINY.shape,
}
LABELS: Mapping[str, str] = {
    "engine": "softprompt engine",
    "unrecorded": "softprompt engine, no pass recorded",
    "torch": "softprompt engine, torch's operators",
    "static": "transformers generate, static mixed batch",
    "continuous": "transformers continuous batching, text ids only",
}
STEP = "step"
SECONDS = 420
"""After which a process is given up."""


def main(words: Sequence[str] | None = None) -> None:
    given = _arguments(words)
    began = time.monotonic()
    runs: list[dict[str, Any]] = []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for shape in given.shapes:
        checkpoint = str(SHAPES[shape].write(BUILD, given.device))
        _say(began, f"{shape}: the base is written")
        for what in [STEP, *(peer for _ in range(given.repeats) for peer in given.peers)]:
            told = _measured(what, checkpoint, shape, given)
            runs.append({"shape": shape, "what": what, **told})
            found = {"machine": machine(given.device), "runs": runs}
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            _say(began, f"{shape}, {what}: {told.get('failed', 'done')}")
    sys.stdout.write("\n".join(table(runs)) + "\n")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cpu shows that everything runs; its figures mean nothing")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["1b", "7b"], help="of the base, random weights")
    parser.add_argument("--peers", nargs="*", choices=LABELS, default=[*LABELS])
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32, 64], help="requests in flight")
    parser.add_argument("--repeats", type=int, default=2, help="of every peer, in turns")
    parser.add_argument("--out", type=Path, default=BUILD / "gpu.json", help="where the figures go, as JSON")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu --shapes tiny shows that everything runs")
    return given


def workload_of(shape: str) -> Workload:
    return TINY if shape == "tiny" else Workload(SHAPES[shape])


def _measured(what: str, checkpoint: str, shape: str, given: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own says; where it fails, its last line."""
    plan = {"what": what, "checkpoint": checkpoint, "shape": shape, "device": given.device, "at": given.concurrency}
    command = [sys.executable, "-m", "benchmarks.gpu_measure", json.dumps(plan)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer in {SECONDS} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:300]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def machine(device: str) -> dict[str, Any]:
    """Where and with what; no folder and no name of a host."""
    on_gpu = device == "cuda" and torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "commit": commit(),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "triton", "transformers")},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown, for each shape: tokens a second, best of the repeats, then the step beside its floor."""
    for shape in dict.fromkeys(run["shape"] for run in runs):
        own = [run for run in runs if run["shape"] == shape]
        at = [*dict.fromkeys(c for run in own for c in run.get("rates", {}))]
        yield f"| {shape}: output tokens/s, by requests in flight | {' | '.join(at)} |"
        yield "|---" * (len(at) + 1) + "|"
        for peer in dict.fromkeys(run["what"] for run in own if run["what"] != STEP):
            yield f"| {LABELS[peer]} | {_cells([run for run in own if run['what'] == peer], at)} |"
        for run in own:
            if run["what"] == STEP:
                yield from ["", *_step(shape, run)]
        yield ""


def _cells(runs: Sequence[Mapping[str, Any]], at: Sequence[str]) -> str:
    done = [run for run in runs if "rates" in run]
    if not done:
        return f"failed: {runs[0]['failed']}" + " |" * (len(at) - 1)
    return " | ".join(f"{max(run['rates'][c] for run in done):,.0f}" for c in at)


def _step(shape: str, run: Mapping[str, Any]) -> Iterator[str]:
    if "failed" in run:
        yield f"{shape}, a decode step: failed: {run['failed']}"
        return
    points = run["points"]
    lines = {
        "step": [f"{point['step']:.3f}" for point in points],
        "floor: weights and live keys and values read once": [f"{point['floor']:.3f}" for point in points],
        "recorded": ["yes" if point["recorded"] else "no" for point in points],
        "floor over step": [f"{point['floor'] / point['step']:.2f}" for point in points],
    }
    heads = [str(point["at"]) for point in points]
    yield f"| {shape}: milliseconds of a decode step, by sequences | {' | '.join(heads)} |"
    yield "|---" * (len(points) + 1) + "|"
    for name, cells in lines.items():
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    copied = f"{run['bandwidth'] / 1e12:.3f} TB/s copied, read and written"
    yield f"{copied}; kernels: {run['speedup']}"


def _say(began: float, what: str) -> None:
    sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
