"""What HTTP costs: the same requests to the engine as a library and to `softprompt serve` on loopback.

The client shares the machine with the server, as it would not elsewhere, so its own work is in the figures too.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import bring, in_turn, running, tokens_per_second, warm_up
from benchmarks.order import Launch, Order
from benchmarks.prompts import prompt_file, resident_prompts, texts
from benchmarks.report import Chart, charted, gathered
from benchmarks.serving import Client, Reply, closed_loop, question, serving
from benchmarks.timing import WARM_UP
from benchmarks.workload import workload
from prompt_store.base import read_base
from prompt_store.prompt import PromptFile
from server.engine.request import Request, Sampling
from server.engine.settings import EngineSettings
from server.tokenizer import Tokenizer
from server.waiting import SPINS

REPEATS = 2
LIBRARY = "library, no HTTP"
WAYS = {"HTTP, answers in one piece": Client.whole, "HTTP, answers as streams of tokens": Client.streamed}
SIDES = ("library", "server")
Rates = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Over HTTP or not. `requests[i]` with `concurrency[i]` in flight."""

    http: bool
    concurrency: Sequence[int]
    requests: Sequence[int]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32, 64], help="requests in flight")


def launches(given: argparse.Namespace, turn: int) -> list[Launch]:
    """A process for either side, every second repeat the other way round; all wait for threads as the server does."""
    sizes = (given.concurrency, [max(8, 2 * concurrency) for concurrency in given.concurrency])
    waiting = {} if "OMP_WAIT_POLICY" in os.environ else {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}
    orders = [Order.of(given, workload(tiny=given.tiny), Plan(http, *sizes)) for http in (False, True)]
    found = [Launch(side, one.to_json(), variables=waiting) for side, one in zip(SIDES, orders, strict=True)]
    return found if turn % 2 == 0 else found[::-1]


def measure(order: Order) -> dict[str, Any]:
    """Tokens per second at each concurrency, after a warm-up at it, of each way to ask the side that is measured.

    Over HTTP also the share of the threads' time that the client itself took: server and client live on one machine.
    """
    plan, checkpoint, shared = Plan(**order.plan), Path(order.checkpoint), order.workload
    base = read_base(checkpoint)
    files = [prompt_file("embeddings", shared.length, index, base, checkpoint) for index in range(shared.tasks)]
    asked = texts(checkpoint, max(plan.requests), shared.input_tokens)
    rates, client = _server(order, plan, files, asked) if plan.http else (_library(order, plan, files, asked), {})
    return {"concurrency": plan.concurrency, "rates": rates, "client": client}


def _library(order: Order, plan: Plan, files: Sequence[PromptFile], asked: Sequence[str]) -> Rates:
    checkpoint, shared = Path(order.checkpoint), order.workload
    prompts, tokenizer = resident_prompts(files, checkpoint), Tokenizer.load(checkpoint)
    sampling = Sampling(max_new_tokens=shared.new_tokens, ignore_eos=True)
    tasks = in_turn(range(shared.tasks), len(asked))
    requests = [
        Request(index, (*prompts[task].head, *tokenizer.encode(text, parse_special=False)), sampling, prompts[task])
        for index, (task, text) in enumerate(zip(tasks, asked, strict=True))
    ]
    rates = []
    with running(checkpoint, EngineSettings(max_total_tokens=shared.whole)) as engine:
        bring(engine, prompts)
        for concurrency, count in zip(plan.concurrency, plan.requests, strict=True):
            warm_up(engine, requests, concurrency)
            rates.append(tokens_per_second(engine, requests[:count], concurrency))
    return {LIBRARY: rates}


def _server(order: Order, plan: Plan, files: Sequence[PromptFile], asked: Sequence[str]) -> tuple[Rates, Rates]:
    shared = order.workload
    tasks = in_turn(range(shared.tasks), len(asked))
    bodies = [question(f"task-{task}", text, shared.new_tokens) for task, text in zip(tasks, asked, strict=True)]
    rates: Rates = {way: [] for way in WAYS}
    client_share: Rates = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as store, serving(order, store) as served:
        with closing(Client(served.url)) as client:
            for index, file in enumerate(files):
                client.put(f"task-{index}", file.data)
        for concurrency, count in zip(plan.concurrency, plan.requests, strict=True):
            for way, ask in WAYS.items():
                closed_loop(served.url, ask, bodies[: min(concurrency, WARM_UP)], concurrency)
                began, busy = time.perf_counter(), time.process_time()
                replies = closed_loop(served.url, ask, bodies[:count], concurrency)
                seconds = time.perf_counter() - began
                client_share[way].append((time.process_time() - busy) / (order.threads * seconds))
                rates[way].append(_counted(replies, shared.new_tokens) / seconds)
    return rates, client_share


def _counted(replies: Sequence[Reply], new_tokens: int) -> int:
    """Raises ValueError when an answer has another number of tokens than was asked for."""
    if {reply.tokens for reply in replies} != {new_tokens}:
        raise ValueError(f"an answer has other than {new_tokens} tokens")
    return sum(reply.tokens for reply in replies)


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Tokens per second of the library and of each way over HTTP, by concurrency; and what the client took of it."""
    runs = sorted(runs, key=lambda run: SIDES.index(run["label"]))
    found, client = (
        gathered(
            (way, str(concurrency), value)
            for run in runs
            for way, values in run[of].items()
            for concurrency, value in zip(run["concurrency"], values, strict=True)
        )
        for of in ("rates", "client")
    )
    return [
        charted(
            "output tokens/s",
            "requests in flight",
            found,
            ratio="the rate over the library's",
            reference=lambda _, column: (LIBRARY, column),
        ),
        charted("the client's share of the threads' time", "requests in flight", client, best=min),
    ]


def notes(_runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Who counts."""
    return {"tokens counted": "by the client; in answers of one piece the client takes the server's count"}
