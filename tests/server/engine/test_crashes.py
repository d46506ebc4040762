"""What ends the whole engine, and that nobody is left without an end; what an exception means."""

import logging
import queue

import pytest
import torch

from server.engine.engine import MAX_CRASHES, Engine
from server.engine.model import BaseModel
from server.engine.request import Closed, Request, Sampling
from server.engine.settings import EngineSettings
from server.engine.step import Step
from server.engine.troubles import Trouble, trouble_of
from tests.server.engine import oracle
from tests.server.engine.faults import no_memory
from tests.server.engine.playing import leftovers
from tests.server.engine.steps import LOST, WORDS, alone, crowd, ends, failing, raising, submitted
from tests.server.engine.test_engine import prompt, request


def test_when_nobody_can_run_the_work_is_bounded_and_the_engine_gives_up(engine: Engine) -> None:
    """2 N - 1 passes for a step of N; after three such steps everyone has an end and nothing is accepted."""
    sizes = failing(engine, lambda _: RuntimeError("no such kernel"))
    sinks = submitted(engine, [request(None, number) for number in range(8)])
    engine.start()
    assert ends(sinks) == ["internal"] * 8
    assert len(sizes) == 15
    for _ in range(MAX_CRASHES - 1):
        assert engine.healthy
        assert ends(submitted(engine, [request(None)])) == ["internal"]
    engine.pulse.ended.result(oracle.PATIENCE)
    assert not engine.healthy
    with pytest.raises(Closed):
        engine.submit(request(None), queue.SimpleQueue())


def test_a_lost_device_ends_everything_at_once(base: BaseModel) -> None:
    """Running, waiting, cancelled, to be loaded: each gets its end; no pass, no copy, no soft prompt comes."""
    engine = Engine(base, EngineSettings(max_batch=2, threads=1))
    requests = [Request(number, (0, *WORDS, number), Sampling(30, ignore_eos=True)) for number in range(5, 11)]
    asked: list[str] = []

    def lost(_: Step) -> Exception | None:
        if len(sizes) <= 4:
            return None
        engine._runner.kv.copy_out = lambda *_: asked.append("a copy")  # type: ignore[method-assign, assignment]
        engine._residency._maker.make = lambda *_: asked.append("a soft prompt")  # type: ignore[method-assign, assignment]
        engine.cancel(requests[0].id)
        engine.load(prompt(3))
        return LOST

    sizes = failing(engine, lost)
    sinks = submitted(engine, requests)
    engine.start()
    assert ends(sinks) == ["engine_failed"] * 6
    engine.pulse.ended.result(oracle.PATIENCE)
    assert not engine.healthy
    assert (len(sizes), asked) == (5, [])
    with pytest.raises(Closed):
        engine.submit(request(None), queue.SimpleQueue())


@pytest.mark.parametrize("ahead", [True, False])
def test_a_device_lost_over_a_soft_prompt_is_no_fault_of_the_soft_prompt(engine: Engine, *, ahead: bool) -> None:
    """Loaded ahead or by its request."""
    engine._residency._maker.make = raising(LOST)  # type: ignore[method-assign, assignment]
    sinks = submitted(engine, [request(None, max_new_tokens=200)])
    if ahead:
        engine.load(prompt(3))
    else:
        sinks += submitted(engine, [request(prompt(3))])
    engine.start()
    assert set(map(str, ends(sinks))) == {"engine_failed"}
    engine.pulse.ended.result(oracle.PATIENCE)
    assert not engine.healthy


@pytest.mark.parametrize("part", ["_scheduler.schedule", "_progress.apply", "_residency.hold", "_scheduler.add"])
def test_a_crash_of_the_engines_thread_leaves_nobody_without_an_end(
    engine: Engine, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two steps, behind one, in an order from outside, even where a queue is then not what it should be."""
    owner, name = part.split(".")
    sinks = submitted(engine, [request(prompt(3) if i % 2 else None, i, max_new_tokens=30) for i in range(6)])
    setattr(getattr(engine, owner), name, raising(KeyError("a bug")))
    engine._scheduler.finish = raising(KeyError("the next"))  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.ERROR):
        engine.start()
        assert ends(sinks) == ["engine_failed"] * 6
        engine.pulse.ended.result(oracle.PATIENCE)
    assert not engine.healthy
    assert "the engine has crashed" in caplog.text
    with pytest.raises(Closed):
        engine.submit(request(None), queue.SimpleQueue())


class Gone:
    """A sink on an event loop that has closed."""

    def put(self, event: object) -> None:
        raise RuntimeError("Event loop is closed")


@pytest.mark.parametrize("new_tokens", [1, 200])
def test_a_sink_that_raises_costs_its_own_request_alone(base: BaseModel, engine: Engine, new_tokens: int) -> None:
    """It ends where it was first not heard; its neighbours answer, the engine lives, the slot is free."""
    requests = crowd(4)
    wanted = alone(base, requests)
    for number in range(3):
        engine.submit(request(None, number, max_new_tokens=new_tokens), Gone())
    sinks = submitted(engine, requests)
    engine.start()
    assert ends(sinks) == wanted
    assert ends(submitted(engine, requests)) == wanted
    assert engine.snapshot().counters.generated <= 3 + 2 * sum(map(len, wanted))
    engine.close()
    assert leftovers(engine) == []


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (no_memory(), Trouble.MEMORY),
        (MemoryError(), Trouble.MEMORY),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            Trouble.MEMORY,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Trouble.MEMORY),
        (torch.AcceleratorError("CUDA error: out of memory"), Trouble.MEMORY),
        (LOST, Trouble.DEVICE),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), Trouble.DEVICE),
        (RuntimeError("shape mismatch"), Trouble.OTHER),
        (ValueError("CUDA error: says whoever wrote this file"), Trouble.OTHER),
    ],
)
def test_an_exception_is_told_by_what_it_means(error: Exception, trouble: Trouble) -> None:
    """Also behind one that was raised from it."""
    assert trouble_of(error) is trouble
    wrapped = ValueError("what it was in")
    wrapped.__cause__ = error
    assert trouble_of(wrapped) is trouble


def test_a_real_allocation_that_fails_is_known() -> None:
    """Whatever torch says where there is no memory."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert trouble_of(raised.value) is Trouble.MEMORY
