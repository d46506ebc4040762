"""The engine as a library, and a load on it: a closed loop that keeps so many requests in flight and counts ids itself.

Knows engine and requests; no HTTP, no part.
"""

import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

from benchmarks.timing import WARM_UP
from benchmarks.workload import Workload
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Prompt, Request, Sampling, TokenEvent
from server.engine.settings import EngineSettings

AT_ONCE = 64


@dataclass(slots=True)
class Answer:
    """The sink of one request: its ids, and when it was asked and first answered, seconds of `time.perf_counter()`."""

    done: "queue.SimpleQueue[Event]"
    asked: float = 0.0
    first: float = 0.0
    ids: list[int] = field(default_factory=list)

    def put(self, event: Event, /) -> None:
        if not isinstance(event, TokenEvent):
            self.done.put(event)
            return
        if not self.ids:
            self.first = time.perf_counter()
        self.ids.append(event.id)


@contextmanager
def running(checkpoint: Path, settings: EngineSettings) -> Iterator[Engine]:
    """The engine on a CPU in bfloat16, started.

    It keeps no texts: the same inputs are asked in every cell, and would be found instead of read.
    """
    base = BaseModel.load(checkpoint, device="cpu", dtype="bfloat16")
    engine = Engine(base, replace(settings, text_budget=0))
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def ask(engine: Engine, requests: Sequence[Request], concurrency: int) -> list[Answer]:
    """Raises ValueError when an answer has other than as many ids as asked for: another workload would be measured."""
    done: queue.SimpleQueue[Event] = queue.SimpleQueue()
    answers = [Answer(done) for _ in requests]

    def submit(index: int) -> None:
        answers[index].asked = time.perf_counter()
        engine.submit(requests[index], answers[index])

    for index in range(min(concurrency, len(requests))):
        submit(index)
    for following in range(concurrency, concurrency + len(requests)):
        done.get()
        if following < len(requests):
            submit(following)
    for request, answer in zip(requests, answers, strict=True):
        if len(answer.ids) != request.sampling.max_new_tokens:
            raise ValueError(f"an answer has {len(answer.ids)} ids, not {request.sampling.max_new_tokens}")
    return answers


def requests(
    prompts: Sequence[Prompt | None], tasks: Sequence[int], workload: Workload, new_tokens: int | None = None
) -> list[Request]:
    """One for each of `tasks`, with an input of its own; `new_tokens` other than the workload's where given."""
    sampling = Sampling(max_new_tokens=new_tokens or workload.new_tokens, ignore_eos=True)
    chosen = [prompts[task] for task in tasks]
    return [
        Request(index, (*(prompt.head if prompt else ()), *ids), sampling, prompt)
        for index, (prompt, ids) in enumerate(zip(chosen, workload.inputs(len(tasks)), strict=True))
    ]


def bring(engine: Engine, prompts: Sequence[Prompt]) -> None:
    """Into memory, heads and all, as publishing a task does: each is asked once for one id, with an input of one."""
    sampling = Sampling(max_new_tokens=1, ignore_eos=True)
    ask(engine, [Request(i, (*p.head, 0), sampling, p) for i, p in enumerate(prompts)], AT_ONCE)


def warm_up(engine: Engine, asked: Sequence[Request], concurrency: int) -> None:
    """With the first few, as every peer is warmed."""
    ask(engine, asked[: min(concurrency, WARM_UP)], concurrency)


def tokens_per_second(engine: Engine, asked: Sequence[Request], concurrency: int) -> float:
    """Generated ids, counted as they arrive, over the whole time, prefills included."""
    began = time.perf_counter()
    answers = ask(engine, asked, concurrency)
    return sum(len(answer.ids) for answer in answers) / (time.perf_counter() - began)


def first_token_seconds(
    engine: Engine, prompts: Sequence[Prompt | None], tasks: Sequence[int], workload: Workload
) -> list[float]:
    """From a request to its first id, each alone."""
    asked = requests(prompts, tasks, workload, new_tokens=1)
    return [answer.first - answer.asked for answer in ask(engine, asked, 1)]


def in_turn(tasks: Sequence[int], count: int) -> list[int]:
    """The first `count` of `tasks`, over and over."""
    return list(islice(cycle(tasks), count))
