"""What learns beside the engine: on the very same weights, to the same numbers, and only while nobody waits."""

import itertools
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from server.engine import step as passes
from server.engine.engine import Engine
from server.engine.learning import view
from server.engine.model import BaseModel
from server.engine.packing import PackedLinear, Part
from server.engine.request import Event, Finished, Request, Sampling, TokenEvent
from server.engine.runner import Outcome
from server.engine.settings import EngineSettings
from server.tokenizer import Tokenizer
from tests import models
from tests.server.engine import oracle
from tests.tuning.conftest import LABELS, examples
from tests.tuning.test_learn import PLAN, SETTINGS
from tuning.base import FrozenBase
from tuning.learn import Tuning
from tuning.llama_adapter import FAMILIES
from tuning.methods import METHODS, MethodName
from tuning.plan import Step

SERVED = [method for method, told in METHODS.items() if told.kind is not None]


def frozen(base: BaseModel, folder: Path) -> FrozenBase:
    return FrozenBase(view(base), Tokenizer.load(folder), base.base, sorted(base.eos_ids))


def losses(base: FrozenBase, method: MethodName, folder: Path) -> list[float]:
    plan = replace(PLAN, steps=6, learning_rate=METHODS[method].rate)
    run = Tuning(base, replace(SETTINGS, method=method, plan=plan, labels=LABELS), examples(), examples())
    return [event.loss for event in run.events(folder / "checkpoint") if isinstance(event, Step)]


@pytest.mark.parametrize(
    ("family", "method"),
    [
        (family, method)
        for family, method in itertools.product(("llama", "qwen3", "gpt2", "gemma3"), SERVED)
        if method != "llama_adapter" or family in FAMILIES
    ],
)
def test_what_is_learnt_on_the_servers_base_is_what_is_learnt_on_a_plain_one(
    tmp_path: Path, family: str, method: MethodName
) -> None:
    """Packed matrices, fused norms and layers included: the losses of plain layers, step by step."""
    folder = models.save(tmp_path / "base", family)
    plain, served = (BaseModel.load(folder, device="cpu", dtype="float32", packed=packed) for packed in (False, True))
    expected = losses(frozen(plain, folder), method, tmp_path)
    assert losses(frozen(served, folder), method, tmp_path) == pytest.approx(expected, rel=1e-3)
    assert expected[-1] < expected[0]


def test_a_view_holds_no_weight_of_its_own(tmp_path: Path) -> None:
    """Every matrix lies where the engine's lies, packed ones too."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32")
    copied = view(base)
    pairs = list(zip(base.model.modules(), copied.modules(), strict=True))
    assert all(one is not other for one, other in pairs)
    for one, other in pairs:
        for (name, tensor), (_, same) in zip(one.named_parameters(), other.named_parameters(), strict=True):
            assert tensor.data_ptr() == same.data_ptr(), name
        if isinstance(one, Part) and isinstance(other, Part):
            assert one.together.whole._packed is other.together.whole._packed
        if isinstance(one, PackedLinear) and isinstance(other, PackedLinear):
            assert one._packed is other._packed


def test_the_engine_answers_as_before_while_something_learns(tmp_path: Path) -> None:
    """At the same time, on the same weights: no answer changes."""
    folder = models.save(tmp_path / "base")
    base = BaseModel.load(folder, device="cpu", dtype="float32")
    learner = frozen(base, folder)
    engine = Engine(base, EngineSettings(threads=1))
    engine.start()
    try:
        alone = ask(engine, 0)
        learning = threading.Thread(target=losses, args=(learner, "prefix_tuning", tmp_path))
        learning.start()
        beside = [ask(engine, number) for number in range(1, 9)]
        learning.join()
    finally:
        engine.close()
    assert all(ids == alone for ids in beside)


def ask(engine: Engine, number: int, count: int = 12) -> list[int]:
    """The ids of an answer."""
    sink: queue.SimpleQueue[Event] = queue.SimpleQueue()
    engine.submit(Request(number, (0, 5, 6, 7), Sampling(max_new_tokens=count, ignore_eos=True)), sink)
    found = [sink.get(timeout=60) for _ in range(count + 1)]
    assert isinstance(found[-1], Finished)
    return [event.id for event in found if isinstance(event, TokenEvent)]


def test_whoever_waits_for_an_idle_engine_is_told(tmp_path: Path) -> None:
    """Idle before and after a request, not while it runs."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32")
    engine = Engine(base, EngineSettings(threads=1))
    assert not engine.idle(0.0)
    engine.start()
    try:
        assert engine.idle(30.0)
        sink: queue.SimpleQueue[Event] = queue.SimpleQueue()
        engine.submit(Request(0, (0, 5, 6), Sampling(max_new_tokens=200, ignore_eos=True)), sink)
        assert isinstance(sink.get(timeout=60), TokenEvent)
        assert not engine.idle(0.0)
        while not isinstance(sink.get(timeout=60), Finished):
            pass
        assert engine.idle(30.0)
    finally:
        engine.close()


def test_weights_of_8_bits_are_refused(tmp_path: Path) -> None:
    """By name, before anything is learnt."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32")
    base.int8 = True
    with pytest.raises(ValueError, match="8 bits take no gradient"):
        view(base)


def test_the_pace_is_asked_before_every_pass(tmp_path: Path) -> None:
    """Evaluations included; smaller passes, more of them, to the same losses."""
    folder = models.save(tmp_path / "base")
    base = BaseModel.load(folder, device="cpu", dtype="float32")
    counts, found = [], []
    for positions in (2048, 64):
        learner = frozen(base, folder)
        passes: list[int] = []
        learner.pace, learner.positions = lambda passes=passes: passes.append(1), positions
        found.append(losses(learner, "prompt_tuning", tmp_path))
        counts.append(len(passes))
    assert counts[1] > 2 * counts[0]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_what_others_choose_for_torch_is_not_the_engines(base: BaseModel) -> None:
    """A job learns on one thread, beside: the engine has as many as it was made with."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    engine = Engine(base, EngineSettings())
    run, seen = engine._runner.run, set()

    def noted(step: passes.Step) -> list[Outcome]:
        seen.add(torch.get_num_threads())
        return run(step)

    engine._runner.run = noted  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as beside:
        beside.submit(torch.set_num_threads, 1).result()
    engine.start()
    oracle.ask(engine, Request("once", (1, 2, 3), Sampling(max_new_tokens=1)))
    engine.close()
    torch.set_num_threads(before)
    assert seen == {engine.threads} == {3}
