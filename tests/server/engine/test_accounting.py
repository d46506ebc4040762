"""The half of the engine that knows no tensors: slots, residents, who runs next."""

import queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.request import Event, Finished, Prompt, Request, Sampling
from server.engine.residency import Residency, Resident
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.slots import Slots


def sequence(length: int = 4, prompt: Resident | None = None, **fields: object) -> Sequence:
    request = Request(object(), tuple(range(3, 3 + length)), Sampling(max_new_tokens=4), **fields)  # type: ignore[arg-type]
    sink: queue.SimpleQueue[Event] = queue.SimpleQueue()
    found = Sequence(request, sink, prompt)
    if prompt is not None:
        prompt.users += 1
    return found


def resident(digest: str, size: int = 10, head: tuple[int, ...] = ()) -> Resident:
    return Resident(Prompt(digest, None, head), size)


@given(st.lists(st.integers(0, 5), max_size=60))
def test_slots_are_held_once_and_holes_close(choices: list[int]) -> None:
    """Whatever is taken and released, no two sequences share a slot, and after closing they are 0 .. n-1."""
    slots, held = Slots(6), []
    for choice in choices:
        if slots.free and choice % 2:
            one = sequence()
            one.slot = slots.take(one)
            held.append(one)
        elif held:
            one = held.pop(choice % len(held))
            slots.release(one.slot)
        if choice == 5:
            for move in slots.close_holes():
                assert move.target < move.source
            assert sorted(one.slot for one in held) == list(range(len(held)))
        assert len({one.slot for one in held}) == len(held) == len(slots)


def test_the_least_recently_used_resident_leaves_first() -> None:
    """Within the bytes of the budget, use decides who stays."""
    residency = Residency(30)
    for digest in "abc":
        assert residency.add(resident(digest))
    assert residency.take("a") is not None
    assert residency.add(resident("d"))
    assert [digest for digest in "abcd" if residency.peek(digest)] == ["a", "c", "d"]
    assert residency.bytes == 30


def test_a_resident_in_use_is_never_evicted() -> None:
    """When all are in use, a newcomer is turned away and nothing is lost."""
    residency = Residency(20)
    for digest in "ab":
        one = resident(digest)
        one.users = 1
        assert residency.add(one)
    assert not residency.add(resident("c"))
    assert residency.peek("a") is not None
    assert residency.peek("b") is not None
    assert residency.bytes == 20


def test_a_step_never_exceeds_its_budget_and_decodes_come_first() -> None:
    """Ids of one pass: every decode, then chunks that fill what is left."""
    scheduler = Scheduler(4, 10, Residency(0))
    long, short = sequence(25), sequence(3)
    scheduler.add(long)
    scheduler.add(short)
    chunks = []
    for _ in range(3):
        step = scheduler.schedule()
        assert len(step.decodes) + sum(chunk.count for chunk in step.prefills) <= 10
        for chunk in step.prefills:
            chunks.append((chunk.sequence is long, chunk.start, chunk.count))
            chunk.sequence.fed += chunk.count
    assert chunks == [(True, 0, 10), (True, 10, 10), (True, 20, 5), (False, 0, 3)]
    long.ids.append(9)
    step = scheduler.schedule()
    assert step.decodes == [long]


def test_a_task_whose_head_is_not_ready_holds_up_nobody() -> None:
    """Its requests wait for one prefill of the head; those behind them start at once."""
    residency = Residency(100)
    scheduler = Scheduler(8, 100, residency)
    task = resident("t", head=(3, 4))
    residency.add(task)
    waiting, other = [sequence(5, task) for _ in range(2)], sequence(6)
    for one in (*waiting, other):
        scheduler.add(one)
    step = scheduler.schedule()
    heads = [chunk.sequence for chunk in step.prefills if scheduler.is_head(chunk.sequence)]
    assert len(heads) == 1
    assert [chunk.sequence for chunk in step.prefills if chunk.sequence not in heads] == [other]
    heads[0].fed = 2
    task.cover(object())
    scheduler.finish(heads[0])
    step = scheduler.schedule()
    assert [one in waiting for one in step.admitted] == [True, True]
    assert {one.fed for one in waiting} == {2}


def test_a_second_terminal_event_is_refused() -> None:
    """A request ends once."""
    one = sequence()
    one.end(Finished("length", 0))
    with pytest.raises(RuntimeError, match="twice"):
        one.end(Finished("eos", 0))
