"""The engine's own loop, driven by hand, so that a single decode step can be timed. Knows the engine; no figures."""

import queue
import time
from collections.abc import Callable

from benchmarks.workload import Workload
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Request, Sampling
from server.engine.settings import EngineSettings

STEPS, WARM = 20, 5


def decoding(base: BaseModel, workload: Workload, concurrency: int, threads: int | None = None) -> Engine:
    """An engine without its thread, all of whose sequences decode."""
    settings = EngineSettings(max_total_tokens=workload.whole + 2 * STEPS, threads=threads, text_budget=0)
    engine = Engine(base, settings)
    wish = Sampling(max_new_tokens=workload.new_tokens + 2 * STEPS, ignore_eos=True)
    sinks: list[queue.SimpleQueue[Event]] = [queue.SimpleQueue() for _ in range(concurrency)]
    for number, (job, sink) in enumerate(zip(workload.jobs(concurrency), sinks, strict=True)):
        engine.submit(Request(number, tuple(job.ids), wish), sink)
    engine._obey()  # noqa: SLF001 - the loop, by hand
    while any(sink.empty() for sink in sinks):
        engine._advance()  # noqa: SLF001 - likewise
    for _ in range(WARM):
        engine._advance()  # noqa: SLF001 - likewise
    return engine


def seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
