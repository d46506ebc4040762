"""What learning costs those who are served meanwhile: latencies at half load with and without a job, and its memory.

A real `softprompt serve` on loopback. Requests come at fixed random times, half as many as the server could answer; a
latency counts from the time at which a request should have been sent.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.order import Launch, Order
from benchmarks.prompts import prompt_file, texts
from benchmarks.report import Chart, charted
from benchmarks.serving import Client, closed_loop, question, resident, serving
from benchmarks.workload import SEED, workload
from prompt_store.base import read_base

REPEATS = 2
TASK = "served"
ROWS = 256
EVERY = 4
"""Steps between two evaluations, by which a job's progress is seen."""
ALONE_SECONDS = 20.0
SHARES = {"median": 50, "95th percentile": 95}
STEPS = 4_000
"""More than there is time for: the job is cancelled."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Capacity is found with `concurrency` in flight; then `requests` come at half of it, `turns` times either way.

    `alone`: seconds for which a job has the server to itself.
    """

    concurrency: int
    requests: int
    turns: int
    alone: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", type=int, default=8, help="requests in flight while capacity is found")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """One server a repeat, of a base that can end an answer."""
    plan = Plan(*((2, 8, 1, 1.0) if given.tiny else (given.concurrency, 60, 2, ALONE_SECONDS)))
    found = workload(tiny=given.tiny)
    ending = replace(found, shape=replace(found.shape, end=2))
    return [Launch("server", Order.of(given, ending, plan).to_json())]


def measure(order: Order) -> dict[str, Any]:
    """In turns without and with a job, on one server."""
    plan, checkpoint, shared = Plan(**order.plan), Path(order.checkpoint), order.workload
    asked = texts(checkpoint, max(plan.requests, 4 * plan.concurrency), shared.input_tokens)
    bodies = [question(TASK, text, shared.new_tokens) for text in asked]
    file = prompt_file("embeddings", shared.length, 0, read_base(checkpoint), checkpoint)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(order, f"{folder}/store", f"{folder}/jobs") as served,
        closing(Client(served.url)) as client,
        httpx.Client(base_url=served.url, trust_env=False) as http,
    ):
        client.put(TASK, file.data)
        closed_loop(served.url, Client.streamed, bodies[: plan.concurrency], plan.concurrency)
        rate = _capacity(served.url, bodies[: 4 * plan.concurrency], plan.concurrency)
        uploaded = _upload(http, texts(checkpoint, ROWS, shared.input_tokens // 2))
        calm: list[dict[str, float]] = []
        learning: list[dict[str, float]] = []
        memory = {"serving": 0, "serving and learning": 0}
        steps: dict[str, list[float]] = {"serving and learning": [], "learning alone": []}
        for turn in range(plan.turns):
            calm += _at_rate(served.url, bodies[: plan.requests], rate / 2, turn)
            memory["serving"] = memory["serving"] or resident(served.pid)
            job = _begin(http, uploaded, shared.length)
            began = time.perf_counter()
            learning += _at_rate(served.url, bodies[: plan.requests], rate / 2, turn)
            memory["serving and learning"] = max(memory["serving and learning"], resident(served.pid))
            steps["serving and learning"].append(_end(http, job) / (time.perf_counter() - began))
        job = _begin(http, uploaded, shared.length)
        began = time.perf_counter()
        time.sleep(plan.alone)
        steps["learning alone"].append(_end(http, job) / (time.perf_counter() - began))
    return {"rate": rate, "calm": calm, "learning": learning, "memory": memory, "steps_per_second": steps}


def _capacity(url: str, bodies: Sequence[bytes], concurrency: int) -> float:
    """Requests per second."""
    began = time.perf_counter()
    closed_loop(url, Client.streamed, bodies, concurrency)
    return len(bodies) / (time.perf_counter() - began)


def _at_rate(url: str, bodies: Sequence[bytes], rate: float, seed: int) -> list[dict[str, float]]:
    """Seconds to the first token and to the last, from when each should have been sent."""
    due = np.cumsum(np.random.default_rng(SEED + seed).exponential(1 / rate, len(bodies))).tolist()

    def one(index: int) -> dict[str, float]:
        sent = began + due[index]
        with closing(Client(url)) as client:
            time.sleep(max(sent - time.perf_counter(), 0))
            reply = client.streamed(bodies[index])
        return {"first token": reply.first - sent, "last token": time.perf_counter() - sent}

    with ThreadPoolExecutor(len(bodies)) as pool:
        began = time.perf_counter() + 0.1
        return list(pool.map(one, range(len(bodies))))


def _upload(http: httpx.Client, rows: Sequence[str]) -> str:
    lines = (json.dumps({"text": text, "target": "ab"[index % 2]}) for index, text in enumerate(rows))
    form = {"file": ("rows.jsonl", "\n".join(lines).encode())}
    answer = http.post("/v1/files", files=form, data={"purpose": "fine-tune"}).raise_for_status()
    name: str = answer.json()["id"]
    return name


def _begin(http: httpx.Client, file: str, length: int) -> str:
    """A job that learns now."""
    told = {
        "steps": STEPS,
        "patience": STEPS,
        "batch_size": 16,
        "evaluate_every": EVERY,
        "length": length,
        "max_new_tokens": 1,
    }
    method = {"type": "prompt_tuning", "prompt_tuning": {"template": "{text}", "hyperparameters": told}}
    body = {"model": "base", "suffix": "learnt", "training_file": file, "method": method, "seed": 0}
    job: str = http.post("/v1/fine_tuning/jobs", json=body).raise_for_status().json()["id"]
    while not _evaluations(http, job):
        _check_runs(http, job)
        time.sleep(0.05)
    return job


def _end(http: httpx.Client, job: str) -> int:
    """Its steps since it was evaluated first."""
    _check_runs(http, job)
    http.post(f"/v1/fine_tuning/jobs/{job}/cancel").raise_for_status()
    return EVERY * (_evaluations(http, job) - 1)


def _check_runs(http: httpx.Client, job: str) -> None:
    state = http.get(f"/v1/fine_tuning/jobs/{job}").json()
    if state["status"] not in {"queued", "running"}:
        raise RuntimeError(f"the job is over: {state['status']}, {state['error']}")


def _evaluations(http: httpx.Client, job: str) -> int:
    events = http.get(f"/v1/fine_tuning/jobs/{job}/events?limit=1000").json()["data"]
    return sum(event["type"] == "metrics" for event in events)


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Latencies with and without a job, and memory."""
    ways = {"calm": "serving", "learning": "serving and learning"}
    found = {
        label: {
            f"{name}, {share}": [1000 * float(np.percentile([one[name] for one in run[way]], number)) for run in runs]
            for name in ("first token", "last token")
            for share, number in SHARES.items()
        }
        for way, label in ways.items()
    }
    memory = {label: {"resident": [run["memory"][label] / 2**20 for run in runs]} for label in ways.values()}
    names = runs[0]["steps_per_second"]
    steps = {name: {"steps": [rate for run in runs for rate in run["steps_per_second"][name]]} for name in names}
    return [
        charted(
            "ms at half load",
            "until",
            found,
            best=min,
            ratio="the time over that without a job",
            reference=lambda _, column: ("serving", column),
        ),
        charted("MiB of the server", "memory", memory, best=max),
        charted("steps/s of the job", "a batch of 16 rows", steps),
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The load."""
    return {"requests per second at full load": [round(run["rate"], 2) for run in runs]}
