"""Random traces on the real engine, a short run of `tests.server.engine.fuzz`; and that its judge would see a slip."""

import queue
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from server.engine.draws import uniform
from server.engine.engine import Engine
from server.engine.request import Event, Finished, Sampling, TokenEvent
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle
from tests.server.engine.fuzz import smallest, stage, told
from tests.server.engine.judge import distance_of, judge
from tests.server.engine.playing import EOS_IDS, Stage, leftovers
from tests.server.engine.traces import Ask, Cancel, Moment, Task, Trace, draw

REQUESTS = 30


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return stage(tmp_path_factory.mktemp("base"), "llama")


@pytest.mark.parametrize("family", models.WIDE)
def test_a_random_trace_is_answered_as_transformers_alone_answers(family: str, tmp_path: Path) -> None:
    """All kinds, cancels, replacements, evictions, chunks; every id, score and end is right and nothing is left."""
    scene = stage(tmp_path / "base", family)
    seed = 100 + models.WIDE.index(family)
    trace = draw(seed, REQUESTS, scene.workshop)
    report = scene.run(trace, free=bool(seed % 2))
    assert not report.wrong, told(family, trace, report, free=bool(seed % 2))
    assert report.counts["ids"] > 20, report.counts
    assert report.counts["solo runs"] > 0


def test_steps_that_fail_at_random_change_no_answer(scene: Stage) -> None:
    """No memory or an exception at any operator of a step: who does not fail for it answers as alone; nothing is left.

    With room for many at once, and with little.
    """
    counts: Counter[str] = Counter()
    for seed in range(200, 204):
        trace = replace(draw(seed, REQUESTS, scene.workshop), faulty=True)
        if seed % 4 < 2:
            trace = replace(trace, settings=replace(trace.settings, kv_budget=2**28, max_waiting=1000))
        report = scene.run(trace, free=seed % 2 == 0)
        assert not report.wrong, told("llama", trace, report, free=seed % 2 == 0)
        counts += report.counts
    assert counts["faults"] > 40, counts
    assert min(counts["internal"], counts["out_of_memory"], counts["solo runs"]) > 0, counts
    assert counts["length"] + counts["eos"] + counts["scored"] > 2 * (counts["internal"] + counts["out_of_memory"])


def test_the_same_seed_is_the_same_run(scene: Stage) -> None:
    """On the engine's own thread nothing depends on the clock: what a seed has shown, it shows again."""
    trace = draw(6, REQUESTS, scene.workshop)
    assert trace == draw(6, REQUESTS, scene.workshop)
    assert scene.run(trace, free=False) == scene.run(trace, free=False)


def test_a_base_that_is_slightly_off_is_found_and_its_trace_made_small(tmp_path: Path) -> None:
    """One number of one layer of the engine's base, changed by a tenth."""
    scene = stage(tmp_path / "base", "gpt2")
    bias = scene.workshop.base.model.get_parameter("transformer.h.1.mlp.c_proj.bias")
    with torch.no_grad():
        bias[5] += 0.1
    trace = draw(3, 12, scene.workshop)
    assert scene.run(trace, free=False).wrong
    small = smallest(trace, lambda less: bool(scene.run(less, free=False).wrong), tries=25)
    assert scene.run(small, free=False).wrong
    assert len(small.moments) < len(trace.moments) // 2


def test_an_answer_that_was_changed_is_found(scene: Stage) -> None:
    """Another id, an id too few, another logprob, another reason, a second end, an end that nobody asked for."""
    ask = Ask(1, Task("front", 3), 5, 0, Sampling(6, temperature=1.0, seed=4, logprobs=2, ignore_eos=True))
    request = scene.workshop.request(ask)
    engine = Engine(scene.workshop.base, EngineSettings(max_batch=1, threads=1))
    engine.start()
    events = oracle.ask(engine, request)
    engine.close()
    first, end = events[0], events[-1]
    assert isinstance(first, TokenEvent)
    assert isinstance(end, Finished)

    def wrong(changed: list[Event]) -> list[str]:
        return judge(scene.reference, request, changed, EOS_IDS, cancelled=False).wrong

    assert wrong(events) == []
    assert "away from being chosen" in wrong([replace(first, id=(first.id + 1) % 384), *events[1:]])[0]
    assert "ended as" in wrong([*events[:-2], end])[0]
    assert "has logprob" in wrong([replace(first, logprob=(first.logprob or 0) + 0.01), *events[1:]])[0]
    assert "best ids" in wrong([replace(first, top=first.top[::-1]), *events[1:]])[0]
    assert "ended as" in wrong([*events[:-1], replace(end, reason="eos")])[0]
    assert wrong([*events, end]) == ["2 terminal events"]
    assert "nobody cancelled it" in wrong([*events[:3], replace(end, reason="cancelled")])[0]
    assert "cached tokens" in wrong([*events[:-1], replace(end, cached_tokens=99)])[0]


def test_a_tie_is_told_from_a_wrong_id() -> None:
    """Its distance is how far the logits are from choosing it: in logits for the best id, else by the drawn point."""
    row = np.log(np.array([0.1, 0.2, 0.4, 0.3]))
    greedy = Sampling()
    assert distance_of(row, greedy, (), 0, 2) == 0
    assert distance_of(row, greedy, (), 0, 3) == pytest.approx(np.log(4 / 3))
    assert distance_of(row + np.array([0, 0, 0, np.log(4 / 3) - 1e-5]), greedy, (), 0, 3) == pytest.approx(1e-5)
    drawn = Sampling(temperature=1.0, seed=1)
    point, ends = uniform(1, 0, 0), (0.0, 0.1, 0.3, 0.7, 1.0)
    for token in range(4):
        outside = max(ends[token] - point, point - ends[token + 1], 0)
        assert distance_of(row, drawn, (), 0, token) == pytest.approx(outside)
    assert distance_of(row, replace(drawn, top_k=1), (), 0, 2) == 0
    assert distance_of(row, replace(drawn, top_k=1), (), 0, 3) > 0.2
    assert distance_of(row, Sampling(repetition_penalty=2.0), (2,), 0, 3) == 0


def test_what_an_engine_leaves_behind_is_found(scene: Stage) -> None:
    """A trace of requests that are all cancelled ends with nothing held; a user that stays is told."""
    ask = Ask(1, Task("prefix", 2), 5, 0, Sampling(30, ignore_eos=True))
    trace = Trace(0, EngineSettings(max_batch=2, threads=1), (Moment(0, ask), Moment(4, Cancel(1))))
    report = scene.run(trace, free=False)
    assert not report.wrong
    assert report.counts["cancelled"] == 1
    engine = Engine(scene.workshop.base, trace.settings)
    engine.start()
    sink = queue.SimpleQueue[Event]()
    engine.submit(scene.workshop.request(ask), sink)
    oracle.events(sink)
    soft = scene.workshop.request(ask).prompt
    assert soft is not None
    assert engine._residency.hold(soft) is not None
    engine.close()
    assert leftovers(engine) == ["a resident has users"]
