"""Steps that raise: who fails for it, and that everybody else answers as alone."""

import queue
from functools import partial

import pytest
import torch

from server.engine.engine import MAX_CRASHES, Engine
from server.engine.kv import KVCache, KVShape
from server.engine.model import BaseModel
from server.engine.request import Event, Request, Sampling
from server.engine.runner import Outcome, Runner
from server.engine.sequence import Sequence
from server.engine.settings import EngineSettings
from server.engine.slots import Move
from server.engine.step import Step
from tests.server.engine import oracle
from tests.server.engine.faults import Breaking, no_memory
from tests.server.engine.playing import leftovers
from tests.server.engine.steps import WORDS, alone, crowd, ends, failing, raising, submitted
from tests.server.engine.test_engine import prompt, request


@pytest.mark.parametrize("behind", [False, True])
def test_out_of_memory_the_youngest_fail_until_it_fits(base: BaseModel, engine: Engine, *, behind: bool) -> None:
    """With room for five of eight the three that came last fail, and the others' ids are those of alone."""
    requests = crowd(8)
    wanted = alone(base, requests)
    failing(engine, lambda step: no_memory() if len(step.sequences()) > 5 else None, behind=behind)
    sinks = submitted(engine, requests)
    engine.start()
    assert ends(sinks) == [*wanted[:5], *["out_of_memory"] * 3]
    engine.close()
    assert leftovers(engine) == []


def test_one_that_finds_no_memory_alone_fails_alone(base: BaseModel, engine: Engine) -> None:
    """Others before and after it are answered; the engine lives."""
    large = request(None, length=90)
    wanted = alone(base, [request(None, 1)])
    failing(engine, lambda step: no_memory() if any(s.request is large for s in step.sequences()) else None)
    engine.start()
    for _ in range(MAX_CRASHES):
        assert ends(submitted(engine, [request(None, 1)])) == wanted
        assert ends(submitted(engine, [request(None, 1), large])) == [*wanted, "out_of_memory"]
    assert engine.healthy


def test_a_head_that_finds_no_memory_beside_others_fails_nobody(base: BaseModel, engine: Engine) -> None:
    """It is read by itself: many may wait for it."""
    soft = prompt(6, 1)
    requests = [request(None, 1, max_new_tokens=40), request(soft, 2), request(soft, 3)]
    wanted = alone(base, requests)

    def wrong(step: Step) -> Exception | None:
        return no_memory() if len(step.sequences()) > 1 and any(s.is_head for s in step.sequences()) else None

    sizes = failing(engine, wrong)
    sinks = submitted(engine, requests[:1])
    engine.start()
    engine.load(soft)
    assert ends(sinks + submitted(engine, requests[1:])) == wanted
    assert 2 in sizes, "it was tried beside the others"


@pytest.mark.parametrize("allocation", range(3))
def test_out_of_memory_a_layout_is_the_new_one_or_the_old(allocation: int) -> None:
    """Whatever it allocates: where that fails, every slot still holds what it held."""
    like = torch.empty(0)
    kv = KVCache(KVShape(layers=3, slots=4, kv_heads=2, positions=256, head_dim=16, area=1024), like)
    kv.fit(30, 4)
    torch.manual_seed(1)
    kv.tensor.copy_(torch.randn(kv.tensor.shape))
    before = kv.tensor[:, :, :, :, :30].clone()
    try:
        with Breaking(allocation, no_memory(), allocating=True):
            kv.fit(100, 4)
    except torch.OutOfMemoryError:
        assert kv.span == 32
    else:
        assert kv.span >= 100
    assert torch.equal(kv.tensor[:, :, :, :, :30], before)


def test_out_of_memory_while_slots_grow_the_youngest_fails(base: BaseModel, engine: Engine) -> None:
    """The cache is laid out for those who are left, and nothing of theirs is lost."""
    requests = [request(None, 1, max_new_tokens=60), request(None, 2, max_new_tokens=60), request(None, 3, length=140)]
    wanted = alone(base, requests)
    fit, failures = engine._runner.kv.fit, iter([no_memory()])

    def grown(positions: int, high: int) -> None:
        if positions > 60 and (error := next(failures, None)) is not None:
            raise error
        fit(positions, high)

    engine._runner.kv.fit = grown  # type: ignore[method-assign]
    sinks = submitted(engine, requests)
    engine.start()
    assert ends(sinks) == [*wanted[:2], "out_of_memory"]
    assert ends(submitted(engine, [requests[2]])) == wanted[2:]


def test_of_a_pass_that_raises_exactly_those_fail_who_raise_alone(base: BaseModel, engine: Engine) -> None:
    """Two of sixteen, among others that are scored, drawn and read: found in few passes, and nobody else notices."""
    requests = crowd(16)
    wanted: list[str | list[int]] = [*alone(base, requests)]
    sick = {requests[3].id, requests[10].id}
    sizes = failing(
        engine, lambda step: RuntimeError("no kernel") if sick & {s.request.id for s in step.sequences()} else None
    )
    contained, passes = engine._contained.run, []

    def counted(step: Step) -> list[Outcome]:
        before, most = len(sizes), len(step.sequences())
        outcomes = contained(step)
        passes.append((len(sizes) - before, most))
        return outcomes

    engine._contained.run = counted  # type: ignore[method-assign]
    scoring = Request("score", (0, 40, 41, 42), continuations=((5, 6, 7), (8,), (9, 10)))
    sinks, scored = submitted(engine, requests), submitted(engine, [scoring])[0]
    engine.start()
    wanted[3] = wanted[10] = "internal"
    assert ends(sinks) == wanted
    assert len(oracle.scores_of(oracle.events(scored))) == 3
    assert all(1 <= few <= 2 * most - 1 for few, most in passes)
    assert sum(few > 1 for few, _ in passes) <= 2, "both are found where they first raise"
    engine.close()
    assert leftovers(engine) == []


def test_a_pass_that_raises_for_nobody_alone_fails_nobody(base: BaseModel, engine: Engine) -> None:
    """Whatever it is about being together, together they are not run then."""
    requests = crowd(6)
    wanted = alone(base, requests)
    sizes = failing(engine, lambda step: RuntimeError("odd") if len(step.sequences()) > 2 else None, behind=True)
    sinks = submitted(engine, requests)
    engine.start()
    assert ends(sinks) == wanted
    assert max(sizes) == 6


def test_no_memory_for_a_soft_prompt_fails_its_own_requests_for_now(base: BaseModel, engine: Engine) -> None:
    """They are told so, others are answered, and once there is memory the soft prompt is as it always was."""
    requests = [request(prompt(3), 1), request(None, 2)]
    wanted = alone(base, requests)
    make = engine._residency._maker.make
    engine._residency._maker.make = raising(no_memory())  # type: ignore[method-assign, assignment]
    engine.start()
    engine.load(prompt(3))
    assert ends(submitted(engine, requests)) == ["out_of_memory", wanted[1]]
    engine._residency._maker.make = make  # type: ignore[method-assign]
    assert ends(submitted(engine, requests)) == wanted


@pytest.mark.parametrize("ahead", [True, False])
def test_no_memory_to_share_a_head(base: BaseModel, engine: Engine, *, ahead: bool) -> None:
    """Requests that read it themselves go on with their own; read ahead it is no use, and who waits for it is told."""
    soft = prompt(6, 1)
    requests = [request(soft, i) for i in range(4)]
    wanted = alone(base, requests)
    engine._runner.kv.copy_out = raising(no_memory())  # type: ignore[method-assign, assignment]
    if ahead:
        engine.load(soft)
    sinks = submitted(engine, requests)
    engine.start()
    assert ends(sinks) == (["out_of_memory"] * 4 if ahead else wanted)
    engine.close()
    assert leftovers(engine) == []


def test_no_memory_to_keep_a_text_costs_nobody_an_answer(base: BaseModel, engine: Engine) -> None:
    """It is not kept, that is all."""
    requests = [Request(number, (0, *WORDS, number), Sampling(max_new_tokens=6)) for number in range(5, 9)]
    wanted = alone(base, requests)
    engine._runner.kv.copy_out = raising(no_memory())  # type: ignore[method-assign, assignment]
    sinks = submitted(engine, requests)
    engine.start()
    assert ends(sinks) == wanted
    assert engine.snapshot().text_bytes == 0


def test_who_copies_from_one_that_cannot_start_gets_it_from_where_that_one_would_have(
    base: BaseModel, engine: Engine
) -> None:
    """Two begin with a text that is kept: the first fails at its start, the second answers as alone."""
    requests = [Request(number, (0, *WORDS, number), Sampling(max_new_tokens=6)) for number in range(5, 9)]
    wanted = alone(base, requests)
    engine.start()
    assert ends(submitted(engine, requests[:2])) == wanted[:2]
    assert engine.snapshot().text_bytes > 0
    start, sick = engine._runner.start, Request(7, requests[2].ids, requests[2].sampling)

    def started(sequence: Sequence) -> None:
        if sequence.request is sick:
            engine._runner.kv.clear(sequence.slot)
            raise RuntimeError("no such kernel")
        start(sequence)

    engine._runner.start = started  # type: ignore[method-assign]
    held = _at_once(engine, [sick, requests[3]])
    assert ends(held) == ["internal", wanted[3]]


def test_a_start_that_raises_when_all_is_done_is_made_again_whole(base: BaseModel, engine: Engine) -> None:
    """It begins with a text that is kept: the second of two is given up, the first answers as alone."""
    requests = [Request(number, (0, *WORDS, number), Sampling(max_new_tokens=6)) for number in range(5, 9)]
    wanted = alone(base, requests)
    engine.start()
    assert ends(submitted(engine, requests[:2])) == wanted[:2]
    start, failures = engine._runner.start, iter([no_memory()])

    def started(sequence: Sequence) -> None:
        start(sequence)
        if (error := next(failures, None)) is not None:
            raise error

    engine._runner.start = started  # type: ignore[method-assign]
    assert ends(_at_once(engine, requests[2:])) == [wanted[2], "out_of_memory"]


def _at_once(engine: Engine, requests: list[Request]) -> list["queue.SimpleQueue[Event]"]:
    """Accepted by the engine in one go: the first step that sees one sees all."""
    sinks = [queue.SimpleQueue[Event]() for _ in requests]
    engine._tell(lambda: engine.submit_all(list(zip(requests, sinks, strict=True))))
    return sinks


def test_a_step_that_is_laid_out_again_moves_nothing_again(base: BaseModel) -> None:
    """The slot that was moved from is gone with the first layout, of fewer and longer ones."""
    runner = Runner(base, slots=4, positions=256, area=512)
    torch.manual_seed(1)
    runner.kv.tensor.copy_(torch.randn(runner.kv.tensor.shape))
    wanted = runner.kv.copy_out(3, 10)
    step = Step(moves=[Move(3, 0, 10)], high=1, reach=200)
    for _ in range(2):
        runner.lay_out(step)
        assert len(runner.kv.layers[0][0]) < 4
        assert torch.equal(runner.kv.copy_out(0, 10), wanted)


@pytest.mark.parametrize("what", ["start", "lay_out"])
@pytest.mark.parametrize("failures", [1, 9])
def test_out_of_memory_who_is_admitted_and_not_fed_yet_is_the_youngest(
    base: BaseModel, what: str, failures: int
) -> None:
    """It copies from the slot of another one, which stays: a full tile admits it and feeds it in the next pass."""
    settings = EngineSettings(max_batch=4, threads=1, deterministic=True)
    text = WORDS[:32]
    first = [request(None, 1, length=5, max_new_tokens=40), Request(1, (*text, *WORDS[40:100]), Sampling(3))]
    late = Request(2, (*text, *WORDS[110:150]), Sampling(max_new_tokens=8))
    engine = Engine(base, settings)
    engine.start()
    wanted = [oracle.ids_of(oracle.ask(engine, one)) for one in (*first, late)]
    engine.close()

    engine = Engine(base, settings)
    plain, contained, left = getattr(engine._runner, what), engine._contained.run, iter(range(failures))
    sinks, unfed = [queue.SimpleQueue[Event]() for _ in range(3)], list[Request]()
    arrivals = iter([partial(engine.submit, late, sinks[2])])

    def found(given: Step | Sequence) -> None:
        its = [one.request for one in given.admitted] if isinstance(given, Step) else [given.request]
        if late in its and next(left, None) is not None:
            raise no_memory()
        plain(given)

    def run(step: Step) -> list[Outcome]:
        unfed.extend(one.request for one in step.admitted if one not in step.sequences())
        outcomes = contained(step)
        next(arrivals, lambda: None)()
        return outcomes

    setattr(engine._runner, what, found)
    engine._contained.run = run  # type: ignore[method-assign]
    engine.submit_all(list(zip(first, sinks, strict=False)))
    engine.start()
    assert ends(sinks) == [*wanted[:2], "out_of_memory"]
    assert unfed == [late]
    assert engine.healthy
    engine.close()


def test_who_would_copy_from_one_that_left_its_slot_does_not_start(base: BaseModel) -> None:
    """The slot may be another's by then."""
    runner = Runner(base, slots=2, positions=64, area=128)
    runner.lay_out(Step(high=2, reach=20))
    one, gone = (Sequence(request(None, number), queue.SimpleQueue[Event]()) for number in range(2))
    one.admit(0, 4, gone)
    with pytest.raises(RuntimeError, match="left its slot"):
        runner.start(one)
