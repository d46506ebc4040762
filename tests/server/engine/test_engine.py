"""What the engine does around the forward pass: counting, ending, cancelling, isolating."""

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Finished, Prompt, Request, Sampling, TokenEvent
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle

_serial = itertools.count()


@pytest.fixture(params=["native", "plain"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Over native kernels, which read no key past a sequence's end, and over torch's, which weigh it with zero."""
    loaded = BaseModel.load(models.save(tmp_path), device="cpu", dtype="float32", native=request.param == "native")
    found = Engine(loaded, EngineSettings(max_batch=64, max_batch_tokens=256, threads=1))
    found.start()
    yield found
    found.close()


@pytest.fixture
def engine(base: BaseModel) -> Iterator[Engine]:
    found = Engine(base, EngineSettings(max_batch=64, max_batch_tokens=256, threads=1))
    found.start()
    yield found
    found.close()


def prompt(length: int, seed: int = 0) -> Prompt:
    return Prompt(f"{length}/{seed}", models.rows(length, seed=seed).numpy(), (*(~i for i in range(length)), 0))


def _length(soft: Prompt) -> int:
    return 0 if soft.rows is None else len(soft.rows)


def request(found: Prompt | None, seed: int = 0, length: int = 6, **sampling: object) -> Request:
    wish = Sampling(**{"max_new_tokens": 8, "ignore_eos": True, **sampling})  # type: ignore[arg-type]
    own = tuple(3 + (seed * 37 + i * 11) % 380 for i in range(length))
    return Request(next(_serial), (*(found.head if found else (0,)), *own), wish, found)


def test_one_forward_holds_all_tasks_and_heads_are_fed_once(engine: Engine) -> None:
    """64 requests of 6 tasks x 32 tokens: at most 31 decode-only passes, one pass with all 6, no row fed twice."""
    tasks = [prompt(4 + i, i) for i in range(6)]
    requests = [request(tasks[i % 6], i, max_new_tokens=32) for i in range(64)]
    ends = [found[-1] for found in oracle.ask_all(engine, requests)]
    counters = engine.snapshot().counters
    prompt_tokens = sum(sum(1 for token in r.ids if token >= 0) for r in requests)
    cached = sum(end.cached_tokens for end in ends if isinstance(end, Finished))
    assert counters.decode_forwards <= 31
    assert counters.most_digests == 6
    assert counters.ids_fed == prompt_tokens - cached
    assert counters.rows_fed == sum(map(_length, tasks)), "by the first request of each task, on the way"
    assert counters.head_ids_fed == 0
    oracle.ask_all(engine, requests[:6])
    assert engine.snapshot().counters.rows_fed == counters.rows_fed


def test_a_soft_prompt_loaded_ahead_is_read_by_itself(engine: Engine) -> None:
    """Its requests feed no row and no id of the head."""
    soft = prompt(5)
    engine.load(soft)
    found = oracle.ask(engine, request(soft, length=6))
    counters = engine.snapshot().counters
    assert len(oracle.ids_of(found)) == 8
    assert (counters.head_ids_fed, counters.rows_fed, counters.ids_fed) == (len(soft.head), 0, 6)


def test_an_end_id_ends_the_answer_and_is_its_last_event(base: BaseModel, engine: Engine) -> None:
    """The generation stops at an end id unless told to ignore it."""
    free = oracle.ids_of(oracle.ask(engine, request(None, max_new_tokens=16)))
    base_ends = base.eos_ids
    engine._progress._eos_ids = frozenset({free[5]})
    found = oracle.ask(engine, request(None, max_new_tokens=16, ignore_eos=False))
    engine._progress._eos_ids = base_ends
    assert found[-1] == Finished("eos", 0)
    assert [event.id for event in found if isinstance(event, TokenEvent)] == free[: free.index(free[5]) + 1]


def test_sampling_depends_on_the_seed_alone(engine: Engine) -> None:
    """A sampled answer is the same alone and among 40 neighbours, and another seed gives another one."""
    mine = request(None, temperature=1.5, max_new_tokens=16)
    alone = oracle.ids_of(oracle.ask(engine, mine))
    crowd = [request(prompt(5, i % 3), i, temperature=2.0, max_new_tokens=16) for i in range(40)]
    found = oracle.ask_all(engine, [*crowd[:20], mine, *crowd[20:]])
    assert oracle.ids_of(found[20]) == alone
    other = Request(mine.id, mine.ids, Sampling(max_new_tokens=16, ignore_eos=True, temperature=1.5, seed=1))
    assert oracle.ids_of(oracle.ask(engine, other)) != alone


def test_logprobs_are_those_of_the_raw_logits(base: BaseModel, engine: Engine) -> None:
    """The chosen id's and the best ids' natural logs do not change with temperature."""
    for temperature in (0.0, 3.0):
        found = oracle.ask(engine, request(None, temperature=temperature, logprobs=5, max_new_tokens=4))
        first = found[0]
        assert isinstance(first, TokenEvent)
        reference = torch.log_softmax(oracle.logits(models.random_model(), request(None).ids, None)[-1], -1)
        assert first.logprob == pytest.approx(float(reference[first.id]), abs=1e-4)
        assert [token for token, _ in first.top] == reference.topk(5).indices.tolist()
    quiet = oracle.ask(engine, request(None))[0]
    assert isinstance(quiet, TokenEvent)
    assert quiet.logprob is None


class Gate:
    """A sink that lets a test act while the engine stands between two events of one request."""

    def __init__(self, at: int) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._at = at

    def put(self, event: Event) -> None:
        self.events.put(event)
        if isinstance(event, TokenEvent) and event.index == self._at:
            self.reached.set()
            assert self.go_on.wait(oracle.PATIENCE)


def test_cancel_frees_the_slot_within_one_step(engine: Engine) -> None:
    """A request cancelled at token 3 gets no token after the pass that runs, one terminal event, and its slot back."""
    gate, long = Gate(3), request(None, max_new_tokens=200)
    engine.submit(long, gate)
    assert gate.reached.wait(oracle.PATIENCE)
    engine.cancel(long.id)
    gate.go_on.set()
    found = oracle.events(gate.events)
    assert found[-1] == Finished("cancelled", 0)
    assert len(found) == 5
    oracle.ask(engine, request(None))
    assert engine.snapshot().running == 0


def test_an_expired_deadline_ends_a_request_as_timeout(engine: Engine) -> None:
    """A request whose time is up before it starts fails as timeout and its neighbour does not."""
    late = Request("late", (0, 5, 6), Sampling(max_new_tokens=4), deadline=time.monotonic() - 1)
    found = oracle.ask_all(engine, [late, request(None)])
    assert oracle.failure_of(found[0]) == "timeout"
    assert len(oracle.ids_of(found[1])) == 8


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_poisoned_soft_prompt_fails_alone(either: Engine, poison: float) -> None:
    """Requests of a soft prompt with NaN or infinite rows fail; their neighbours' ids do not change."""
    engine = either
    rows = np.full((4, 64), poison, np.float32)
    bad = Prompt("bad", rows, (~0, ~1, ~2, ~3, 0))
    behind = Prompt("bad behind", rows, (0,))
    healthy = [request(prompt(5, i), i) for i in range(6)]
    short = [request(None, i, length=1, max_new_tokens=3) for i in range(20)]
    wanted = [oracle.ids_of(found) for found in oracle.ask_all(engine, healthy)]
    wanted_short = [oracle.ids_of(found) for found in oracle.ask_all(engine, short)]
    own = (*behind.head, 9, 8, ~0, ~1, ~2, ~3, 7)
    sick = [request(bad, 1), request(bad, 2), Request("behind", own, Sampling(max_new_tokens=4), behind)]
    found = oracle.ask_all(engine, [*healthy[:3], *sick, *healthy[3:]])
    assert {oracle.failure_of(f) for f in found[3:6]} == {"non_finite"}
    assert [oracle.ids_of(f) for f in found[:3] + found[6:]] == wanted
    alone = [replace(sick[2], id=("alone", i)) for i in range(8)]
    assert {oracle.failure_of(f) for f in oracle.ask_all(engine, alone)} == {"non_finite"}
    again = [oracle.ids_of(f) for f in oracle.ask_all(engine, [*short, *healthy])]
    assert again == wanted_short + wanted, "nothing is left in the slots, behind shorter holders either"
    assert engine.resident("bad") is None


def test_a_poisoned_slot_does_not_reach_a_later_holder_through_another_layout(either: Engine) -> None:
    """Many short failures, then one that runs, a long one that lays the cache out anew, one that comes beside them."""
    engine = either
    own = (0, 9, 8, ~0, ~1, ~2, ~3, 7)
    rows = np.full((4, 64), math.nan, np.float32)
    poison = Prompt("bad behind", rows, (0,))
    sick = [Request(("sick", i), own, Sampling(max_new_tokens=4), poison) for i in range(16)]
    early, late = request(None, 2, max_new_tokens=150), request(None, 3)
    wanted_early, wanted = (oracle.ids_of(oracle.ask(engine, one)) for one in (early, late))
    assert {oracle.failure_of(found) for found in oracle.ask_all(engine, sick)} == {"non_finite"}
    sinks = [queue.SimpleQueue[Event]() for _ in range(2)]
    for one, sink in zip((early, request(None, 1, length=100, max_new_tokens=100)), sinks, strict=True):
        engine.submit(one, sink)
        assert isinstance(sink.get(timeout=oracle.PATIENCE), TokenEvent)
    assert oracle.ids_of(oracle.ask(engine, late)) == wanted
    assert oracle.ids_of(oracle.events(sinks[0])) == wanted_early[1:]
    assert len(oracle.ids_of(oracle.events(sinks[1]))) == 99


def test_closing_ends_every_request(base: BaseModel) -> None:
    """What cannot finish before the deadline gets `draining`, waiting requests too."""
    engine = Engine(base, EngineSettings(max_batch=1, threads=1))
    sinks = [queue.SimpleQueue[Event]() for _ in range(3)]
    for sink in sinks:
        engine.submit(request(None, max_new_tokens=200), sink)
    engine.start()
    engine.close(0.0)
    assert {oracle.failure_of(oracle.events(sink)) for sink in sinks} <= {"draining", "internal"}


def test_a_forward_that_raises_fails_its_requests_only(base: BaseModel) -> None:
    """After a crashed pass its requests end as internal and the next ones are answered."""
    engine = Engine(base, EngineSettings(threads=1))
    run, crashes = engine._runner.run, iter([True])

    def once(step: object) -> object:
        if next(crashes, False):
            raise RuntimeError("no such kernel")
        return run(step)  # type: ignore[arg-type]

    engine._runner.run = once  # type: ignore[assignment, method-assign]
    engine.start()
    assert oracle.failure_of(oracle.ask(engine, request(prompt(3)))) == "internal"
    assert len(oracle.ids_of(oracle.ask(engine, request(prompt(3))))) == 8
    engine.close()


def test_more_tasks_than_the_prompt_budget_holds_are_all_answered(base: BaseModel) -> None:
    """With room for two residents, ten tasks in flight answer as with room for all."""
    tasks = [prompt(6, i) for i in range(10)]
    requests = [request(tasks[i % 10], i) for i in range(40)]
    answers, residents = [], []
    for budget in (2**30, 24_000):
        engine = Engine(base, EngineSettings(threads=1, prompt_budget=budget))
        engine.start()
        answers.append([oracle.ids_of(found) for found in oracle.ask_all(engine, requests)])
        assert engine.snapshot().resident_bytes <= budget
        residents.append(engine.snapshot().resident_prompts)
        engine.close()
    assert answers[0] == answers[1]
    assert residents[0] == 10
    assert 0 < residents[1] < 10


def test_a_k_v_budget_too_small_for_one_sequence_is_refused(base: BaseModel) -> None:
    """The message says how many bytes one sequence needs."""
    with pytest.raises(ValueError, match=r"needs a K/V budget of \d+ bytes"):
        Engine(base, EngineSettings(kv_budget=1000))


def test_scoring_takes_no_more_of_the_area_than_its_prompt(base: BaseModel) -> None:
    """Prompts of whole grains, continuations of several ids, the area full: every answer comes, no pass raises."""
    position = base.shape.layers * 2 * base.shape.kv_heads * base.shape.head_dim * 4
    engine = Engine(base, EngineSettings(max_batch=16, kv_budget=256 * position, max_total_tokens=256, threads=1))
    labels = tuple((5 + i, 6, 7, 8) for i in range(20))
    scoring = [Request(("score", i), (0, *range(3, 34)), continuations=labels) for i in range(8)]
    generating = [request(None, i, max_new_tokens=20, length=11) for i in range(8)]
    engine.start()
    found = oracle.ask_all(engine, [*scoring, *generating])
    assert [len(oracle.scores_of(one)) for one in found[:8]] == [20] * 8
    assert [len(oracle.ids_of(one)) for one in found[8:]] == [20] * 8
    assert engine.healthy
    engine.close()


def test_a_base_that_is_not_served_is_refused_by_name(tmp_path: Path, shared: Path) -> None:
    """An encoder-decoder is refused with the reason, before any weight is read."""
    with pytest.raises(Exception, match="encoder-decoder"):
        BaseModel.load(shared / "models" / "aren-transliteration-encdec")


def test_a_prompt_that_cannot_be_made_resident_fails_alone(tmp_path: Path) -> None:
    """Whatever a file holds: its own requests get their one terminal event, the others their answers."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32")
    broken = Prompt("broken", None, (0,), adapter=(np.ones((2, 4, 64), np.float32), np.ones((2, 3), np.float32)))
    engine = Engine(base, EngineSettings(max_batch=4, threads=1))
    engine.start()
    try:
        engine.load(broken)
        found = oracle.ask_all(
            engine,
            [Request(name, (0, 5), Sampling(max_new_tokens=2), own) for name, own in (("a", broken), ("b", None))],
        )
        assert oracle.failure_of(found[0]) == "internal"
        assert len(oracle.ids_of(found[1])) <= 2
        assert engine.healthy
    finally:
        engine.close()
