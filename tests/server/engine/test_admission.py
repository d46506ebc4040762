"""Who may wait: budgets, parts of them, and that nobody is counted who does not."""

import queue
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.admission import Admission, Load
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Closed, Event, OwnerFull, QueueFull, Request, Sampling
from server.engine.settings import EngineSettings
from tests.server.engine import oracle

PLENTY = 10**9


def asked(owner: str | None = None, group: str = "t", length: int = 1, new: int = 1) -> Request:
    sampling = Sampling(max_new_tokens=new, ignore_eos=True)
    return Request(object(), (0,) * length, sampling, owner=owner, group=group)


def fill(admission: Admission, owner: str | None, group: str = "t", length: int = 1) -> int:
    """How many of one owner and group are let in before one is not."""
    count = 0
    try:
        while True:
            admission.enter([asked(owner, group, length)])
            count += 1
    except QueueFull:
        return count


def test_one_task_comes_to_a_third_of_the_room() -> None:
    """And another task of the same owner, and another owner, still find some."""
    admission = Admission(Load(90, PLENTY))
    assert fill(admission, "a", "one") == 30
    assert fill(admission, "a", "two") > 0
    assert fill(admission, "b", "one") > 0
    assert admission.waiting.requests < 90


@given(st.integers(1, 200), st.lists(st.sampled_from("abcdef"), max_size=12))
def test_a_newcomer_finds_room_whoever_came_before(most: int, crowd: list[str]) -> None:
    """However many owners fill their parts one after the other, as long as the room is larger than they are many."""
    admission = Admission(Load(most, PLENTY))
    for owner in crowd:
        fill(admission, owner)
    if most >= 2 ** (len(set(crowd)) + 1):
        admission.enter([asked("new")])


def test_an_owner_beyond_its_part_is_told_so() -> None:
    """It is the owner's fault alone as long as there is room."""
    admission = Admission(Load(90, PLENTY))
    for number in range(45):
        fill(admission, "crowd", str(number))
    with pytest.raises(OwnerFull):
        admission.check("crowd")
    with pytest.raises(OwnerFull):
        admission.enter([asked("crowd", "new")])
    admission.check("other")


def test_tokens_are_counted_as_they_may_come_to_be() -> None:
    """Few requests of great cost fill the room as well: text, answer, and every continuation."""
    admission = Admission(Load(PLENTY, 300))
    assert asked(length=40, new=61).tokens == 100
    assert Request(1, (0,) * 10, continuations=((1, 2, 3), (4,))).tokens == 12
    admission.enter([asked(length=40, new=61)])
    with pytest.raises(QueueFull):
        admission.enter([asked(length=40, new=61)])
    admission.enter([asked("other", length=40, new=61)])
    assert admission.waiting == Load(2, 200)


def test_what_is_larger_than_all_the_room_is_let_in_alone() -> None:
    """It would never be otherwise; beside others it is refused."""
    admission = Admission(Load(4, 100))
    large = asked(length=500)
    admission.enter([large])
    with pytest.raises(QueueFull):
        admission.enter([asked("other")])
    admission.leave(large, started=True)
    admission.enter([asked("other")])
    with pytest.raises(QueueFull):
        admission.enter([large])


def test_several_enter_together_or_not_at_all() -> None:
    """Of sixteen choices none waits when there is room for ten."""
    admission = Admission(Load(30, PLENTY))
    admission.enter([asked("a") for _ in range(16)])
    with pytest.raises(QueueFull):
        admission.enter([asked("b") for _ in range(16)])
    assert admission.waiting.requests == 16


def test_who_has_left_is_forgotten() -> None:
    """Once, however often it is said; nothing is kept of owners and groups that are gone."""
    admission = Admission(Load(10**6, PLENTY))
    some = [asked(str(number), str(number)) for number in range(1000)]
    for one in some:
        admission.enter([one])
    for one in some * 2:
        admission.leave(one, started=False)
    assert admission.waiting == Load()
    assert not any((admission._waiting._owners, admission._waiting._groups, admission._inside))


def crowded(admission: Admission) -> list[Request]:
    """3000 owners wait with one request each, and nobody has started."""
    some = [asked(str(number)) for number in range(3000)]
    for one in some:
        admission.enter([one])
    return some


def patience(admission: Admission, more: int) -> int:
    """The seconds that somebody is told who comes with so many more, and is refused."""
    with pytest.raises(QueueFull) as refused:
        admission.enter([asked("late")] * more)
    return refused.value.seconds


def test_when_to_come_back_is_told_from_the_pace() -> None:
    """A second while nothing has started; never more than a minute."""
    admission = Admission(Load(3000, PLENTY))
    some = crowded(admission)
    assert patience(admission, 1) == 1
    for one in some[:4]:
        admission.leave(one, started=True)
    assert patience(admission, 5) == 60
    for one in some[4:100]:
        admission.leave(one, started=True)
    assert 1 < patience(admission, 101) < 60


def test_nobody_is_told_to_come_back_later_than_the_longest_wait_takes() -> None:
    """And what was the pace before the queue was empty is forgotten."""
    admission = Admission(Load(3000, PLENTY), 4.5)
    for _ in range(2):
        some = crowded(admission)
        assert patience(admission, 1) == 1
        for one in some[:4]:
            admission.leave(one, started=True)
        assert patience(admission, 5) == 5
        for one in some[4:]:
            admission.leave(one, started=True)


def test_any_thread_may_come_and_go() -> None:
    """The count is right afterwards, and never more than the room while it lasts."""
    admission = Admission(Load(50, PLENTY))
    seen: list[int] = []

    def come_and_go(owner: str) -> None:
        for _ in range(300):
            one = asked(owner)
            try:
                admission.enter([one])
            except QueueFull:
                continue
            seen.append(admission.waiting.requests)
            admission.leave(one, started=True)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(come_and_go, str(number)) for number in range(8)]
            for one in work:
                one.result()
    finally:
        sys.setswitchinterval(before)
    assert admission.waiting == Load()
    assert max(seen) <= 50


def test_a_waiting_crowd_is_bounded(base: BaseModel) -> None:
    """Beyond max_waiting, submit refuses at once; what was accepted is answered."""
    engine = Engine(base, EngineSettings(max_batch=1, max_waiting=3, threads=1))
    sinks = [queue.SimpleQueue[Event]() for _ in range(3)]
    for owner, sink in enumerate(sinks):
        engine.submit(asked(str(owner), length=6, new=8), sink)
    with pytest.raises(QueueFull):
        engine.submit(asked("late", length=6, new=8), queue.SimpleQueue())
    assert engine.snapshot().waiting == 3
    engine.start()
    assert [len(oracle.ids_of(oracle.events(sink))) for sink in sinks] == [8, 8, 8]
    engine.close()
    assert engine.snapshot().waiting == 0
    with pytest.raises(Closed):
        engine.submit(asked(length=6, new=8), queue.SimpleQueue())


def test_nobody_is_told_to_wait_longer_than_the_settings_allow(base: BaseModel) -> None:
    """However long the queue is, and however slow it was."""
    admission = Engine(base, EngineSettings(max_waiting=30, queue_seconds=2.5)).admission
    some = [asked() for _ in range(30)]
    admission.enter(some)
    for one in some[:2]:
        admission.leave(one, started=True)
    assert patience(admission, 3) == 3


def test_nobody_waits_longer_than_the_settings_allow(base: BaseModel) -> None:
    """Who runs by then goes on to its end; who does not is told so, and no longer counts as waiting."""
    engine = Engine(base, EngineSettings(max_batch=1, queue_seconds=0.01, threads=1))
    runs, waits = queue.SimpleQueue[Event](), queue.SimpleQueue[Event]()
    engine.submit(asked(length=6, new=200), runs)
    engine.submit(asked(length=6, new=8), waits)
    engine.start()
    assert oracle.failure_of(oracle.events(waits)) == "queue_timeout"
    assert engine.snapshot().waiting == 0
    assert len(oracle.ids_of(oracle.events(runs))) == 200
    engine.close()
