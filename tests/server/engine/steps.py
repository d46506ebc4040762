"""Steps of a live engine that are made to raise, and what its requests then end with."""

import queue
from collections.abc import Callable

import torch

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Failed, Request
from server.engine.runner import Outcome
from server.engine.settings import EngineSettings
from server.engine.step import Step
from tests.server.engine import oracle
from tests.server.engine.test_engine import prompt, request

WORDS = tuple(range(40, 200))
"""Long enough that two requests that begin with it share it."""


def alone(base: BaseModel, requests: list[Request]) -> list[list[int]]:
    other = Engine(base, EngineSettings(max_batch=1, threads=1))
    other.start()
    found = [oracle.ids_of(oracle.ask(other, one)) for one in requests]
    other.close()
    return found


def submitted(engine: Engine, requests: list[Request]) -> list["queue.SimpleQueue[Event]"]:
    sinks = [queue.SimpleQueue[Event]() for _ in requests]
    for one, sink in zip(requests, sinks, strict=True):
        engine.submit(one, sink)
    return sinks


def ends(sinks: list["queue.SimpleQueue[Event]"]) -> list[str | list[int]]:
    """Of each its ids, or the code that it failed with."""
    found = [oracle.events(sink) for sink in sinks]
    return [end.code if isinstance(end := one[-1], Failed) else oracle.ids_of(one) for one in found]


def failing(engine: Engine, wrong: Callable[[Step], Exception | None], *, behind: bool = False) -> list[int]:
    """Passes raise where `wrong` says so, `behind` them if asked for; how many sequences each of them had."""
    run, sizes = engine._runner.run, []

    def failed(step: Step) -> list[Outcome]:
        sizes.append(len(step.sequences()))
        error = wrong(step)
        outcomes = run(step) if error is None or behind else []
        if error is not None:
            raise error
        return outcomes

    engine._runner.run = failed  # type: ignore[method-assign]
    return sizes


def crowd(count: int) -> list[Request]:
    """Rows in front that are shared, and none; greedy and drawn."""
    return [request(prompt(4, i % 3) if i % 2 else None, i, temperature=float(i % 4 == 1)) for i in range(count)]


LOST = torch.AcceleratorError("CUDA error: device-side assert triggered")


def raising(error: Exception) -> Callable[..., object]:
    def raising(*_: object) -> object:
        raise error

    return raising
