"""One batch of many tasks: the engine and its peers on the same requests.

Knows the peers by name and how each is started; what they do is theirs.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.order import BUILD, Launch, Order
from benchmarks.peers import embedded_jobs, peers
from benchmarks.preloads import best_libraries
from benchmarks.report import Chart, charted, gathered
from benchmarks.timing import peak_bytes, warm_and_timed
from benchmarks.workload import workload

REPEATS = 2
PRELOADED = "+preload"
LABELS = {
    "engine": "softprompt engine",
    "int8": "softprompt engine, weights of 8 bits",
    "torch": "softprompt engine without native kernels",
    "static": "transformers generate, static mixed batch",
    "continuous": "transformers continuous batching, text ids only",
    "peft": "PEFT set_adapter per task",
    "vllm": "vLLM, prompt_embeds",
    "sketch": "sketch of one file",
}
VLLM_VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One peer. `requests[i]` jobs are run with `concurrency[i]` in flight."""

    peer: str
    concurrency: Sequence[int]
    requests: Sequence[int]
    sketch: str | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", nargs="+", help=f"of {', '.join(LABELS)}; NAME{PRELOADED} is one with preloads")
    parser.add_argument(
        "--preload", nargs="+", type=_absolute, metavar="LIBRARY", help="what preloads are; default: those found"
    )
    parser.add_argument(
        "--vllm-python", type=_absolute, help="interpreter of an environment with vLLM, which is measured then"
    )
    parser.add_argument("--sketch", type=_absolute, help="file of a one-file engine, measured as the peer `sketch`")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32, 64], help="requests in flight")
    parser.add_argument("--waves", type=int, default=2, help="requests per run, in multiples of the concurrency")


def _absolute(path: str) -> str:
    """From where the command was typed: processes start elsewhere. Links stay, an environment is known by its own."""
    return str(Path(path).absolute())


def launches(given: argparse.Namespace, turn: int) -> list[Launch]:
    """Every peer; every second repeat the other way round, so that none is always the first. Raises SystemExit."""
    libraries = tuple(given.preload or best_libraries(given.vllm_python))
    chosen = given.peers or default_peers(
        preloads=bool(libraries), vllm=bool(given.vllm_python), sketch=bool(given.sketch)
    )
    found = []
    for name in chosen:
        peer, preloaded = name.removesuffix(PRELOADED), name.endswith(PRELOADED)
        if peer not in LABELS or (peer == "vllm" and not given.vllm_python) or (peer == "sketch" and not given.sketch):
            raise SystemExit(f"{name}: no such peer, or it lacks its --vllm-python or --sketch")
        if preloaded and not libraries:
            raise SystemExit(f"{name}: no library to preload was found; name some with --preload")
        requests = [max(8, c * (1 if peer == "peft" else given.waves)) for c in given.concurrency]
        plan = Plan(peer, given.concurrency, requests, given.sketch)
        order = Order.of(given, workload(tiny=given.tiny), plan)
        launch = partial(Launch, name, preload=libraries if preloaded else ())
        found.append(_vllm(launch, order, plan, given.vllm_python) if peer == "vllm" else launch(order.to_json()))
    return found if turn % 2 == 0 else found[::-1]


def default_peers(*, preloads: bool, vllm: bool, sketch: bool) -> list[str]:
    """All there are: the engine with and without the preloads, its other forms, and vLLM at its best."""
    bests = [PRELOADED] if preloads else []
    return [
        "engine",
        *("engine" + suffix for suffix in bests),
        *("int8" + suffix for suffix in bests or [""]),
        "torch",
        "static",
        "continuous",
        "peft",
        *(["vllm" + "".join(bests)] if vllm else []),
        *(["sketch"] if sketch else []),
    ]


def _vllm(launch: "partial[Launch]", order: Order, plan: Plan, python: str) -> Launch:
    """What its own interpreter can read: no workload, but arrays. They are made ahead and cost it nothing."""
    BUILD.mkdir(parents=True, exist_ok=True)
    file = BUILD / f"embeds-{order.workload.shape.hidden}.npy"
    embedded_jobs(order.workload, Path(order.checkpoint), max(plan.requests), file)
    told = {
        "checkpoint": order.checkpoint,
        "embeds": str(file),
        "context": order.workload.shape.context,
        "new_tokens": order.workload.new_tokens,
        "concurrency": plan.concurrency,
        "requests": plan.requests,
    }
    variables = {**VLLM_VARIABLES, "OMP_NUM_THREADS": str(order.threads)}
    return launch(json.dumps(told), module="benchmarks.vllm_peer", python=python, variables=variables)


def measure(order: Order) -> dict[str, Any]:
    """Load seconds, peak resident bytes, and one timing per concurrency after a warm-up at that concurrency."""
    plan = Plan(**order.plan)
    began = time.perf_counter()
    make = peers(Path(plan.sketch) if plan.sketch else None)[plan.peer]
    peer = make(order.workload, Path(order.checkpoint))
    loaded = time.perf_counter() - began
    timings = [
        asdict(warm_and_timed(peer.generate, order.workload.jobs(requests), concurrency, order.workload.new_tokens))
        for concurrency, requests in zip(plan.concurrency, plan.requests, strict=True)
    ]
    peer.close()
    return {"load_seconds": loaded, "peak_bytes": peak_bytes(), "timings": timings}


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Output tokens per second, each peer beside the engine that had the same preloads."""
    found = gathered(
        (_label(run["label"]), str(timing["concurrency"]), timing["tokens_per_second"])
        for run in runs
        for timing in run["timings"]
    )
    return [
        charted(
            "output tokens/s",
            "requests in flight",
            found,
            ratio="how many times the peer's rate the engine's is, with the same preloads where both have them",
            reference=lambda row, column: (_engine_beside(row, found), column),
            inverted=True,
        )
    ]


def _label(name: str) -> str:
    peer = name.removesuffix(PRELOADED)
    return LABELS[peer] + (", preloaded" if peer != name else "")


def _engine_beside(row: str, found: Mapping[str, Any]) -> str:
    """A row of the engine has none but itself."""
    if row in {_label("engine"), _label("engine" + PRELOADED)}:
        return row
    with_preloads = _label("engine" + PRELOADED)
    return with_preloads if row.endswith(", preloaded") and with_preloads in found else _label("engine")


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether all did the same, and what each had."""
    return {
        "share of requests answered first with the engine's id (bfloat16, so not all)": agreement(runs),
        "seconds to load": {run["label"]: round(run["load_seconds"], 1) for run in runs},
        "preloads": {run["label"]: run["preload"] for run in runs if run["preload"]},
        "versions": {run["label"]: run["versions"] for run in runs if "versions" in run},
    }


def agreement(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Peer -> share. Of text ids only nothing is said: they are other inputs."""
    firsts = {run["label"]: {t["concurrency"]: t["first_ids"] for t in run["timings"]} for run in runs}
    engine = firsts.get("engine", {})
    shares: dict[str, float] = {}
    for peer, mine in firsts.items():
        pairs = [
            pair
            for concurrency in mine.keys() & engine.keys()
            for pair in zip(mine[concurrency], engine[concurrency], strict=False)
        ]
        if peer.removesuffix(PRELOADED) not in {"engine", "continuous"} and pairs:
            shares[peer] = round(sum(a == b for a, b in pairs) / len(pairs), 3)
    return shares
