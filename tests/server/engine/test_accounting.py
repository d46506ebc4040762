"""The half of the engine that knows no tensors: slots, residents, who runs next."""

import queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.request import Event, Finished, Prompt, Request, Sampling
from server.engine.residency import Residency, Resident
from server.engine.scheduler import OVERTAKEN, Scheduler
from server.engine.sequence import Sequence
from server.engine.slots import Slots
from server.engine.texts import Texts


class Maker:
    """Residents whose size stands in their digest, `name/bytes`; a name of `bad` cannot be made."""

    def size(self, prompt: Prompt) -> int:
        return int(prompt.digest.split("/")[1])

    def make(self, prompt: Prompt) -> Resident:
        if prompt.digest.startswith("bad"):
            raise TypeError("no such shape")
        return Resident(prompt, self.size(prompt))


def prompt(name: str, size: int = 10, head: tuple[int, ...] = ()) -> Prompt:
    return Prompt(f"{name}/{size}", None, head)


def sequence(
    length: int = 4, group: str | None = None, new: int = 4, soft: Prompt | None = None, owner: str | None = None
) -> Sequence:
    sink: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ids = tuple(range(3, 3 + length))
    return Sequence(Request(object(), ids, Sampling(max_new_tokens=new), soft, group=group, owner=owner), sink)


def scheduler(slots: int = 8, max_tokens: int = 100, area: int = 10_000, budget: int = 100) -> Scheduler:
    return Scheduler(Slots(slots, area), max_tokens, Residency(budget, Maker()), Texts(0, 1))


@given(st.lists(st.integers(0, 5), max_size=60))
def test_slots_are_held_once_and_holes_close(choices: list[int]) -> None:
    """Whatever is taken and released, no two sequences share a slot, and after closing they are 0 .. n-1."""
    slots, holding = Slots(6, 600), []
    for choice in choices:
        if slots.free and choice % 2:
            one = sequence()
            one.slot = slots.take(one)
            holding.append(one)
        elif holding:
            one = holding.pop(choice % len(holding))
            slots.release(one.slot)
        if choice == 5:
            for move in slots.close_holes():
                assert move.target < move.source
            assert sorted(one.slot for one in holding) == list(range(len(holding)))
        assert len({one.slot for one in holding}) == len(holding) == len(slots)


def test_a_step_never_exceeds_its_budget_and_decodes_come_first() -> None:
    """Ids of one pass: every decode, then chunks that fill what is left."""
    one = scheduler(4, 10)
    long, short = sequence(25), sequence(3)
    one.add(long)
    one.add(short)
    chunks = []
    for _ in range(3):
        step = one.schedule()
        assert len(step.decodes) + sum(chunk.count for chunk in step.prefills) <= 10
        for chunk in step.prefills:
            chunks.append((chunk.sequence is long, chunk.start, chunk.count))
            chunk.sequence.fed += chunk.count
    assert chunks == [(True, 0, 10), (True, 10, 10), (True, 20, 5), (False, 0, 3)]
    long.ids.append(9)
    step = one.schedule()
    assert step.decodes == [long]


def test_a_head_that_is_not_there_is_read_by_the_first_request_on_the_way() -> None:
    """The others of its task wait for that; those of other tasks start at once."""
    one, soft = scheduler(max_tokens=8), prompt("t", head=(3, 4))
    first, second, other = sequence(5, "t", soft=soft), sequence(5, "t", soft=soft), sequence(3, "u")
    for each in (first, second, other):
        one.add(each)
    step = one.schedule()
    assert [chunk.sequence for chunk in step.prefills] == [first, other]
    assert one.reads_head(first)
    assert first.resident is not None
    first.fed = other.fed = 5
    assert one.schedule().admitted == []
    first.resident.cover(object())
    one.head_read(first)
    assert one.schedule().admitted == [second]
    assert second.fed == 2


def test_a_reader_that_leaves_early_is_followed_by_the_next() -> None:
    """A head half read is nobody's."""
    one, soft = scheduler(max_tokens=3), prompt("t", head=(3, 4, 5, 6))
    first, second = [sequence(6, "t", soft=soft) for _ in range(2)]
    one.add(first)
    one.add(second)
    assert one.schedule().admitted == [first]
    first.fed = 3
    one.finish(first)
    first.end(Finished("cancelled", 0))
    assert one.schedule().admitted == [second]
    assert second.fed == 0
    assert one.reads_head(second)


@pytest.mark.parametrize("whole", [True, False])
def test_a_head_loaded_ahead_is_read_by_itself(*, whole: bool) -> None:
    """Also when no request begins with all of it, and always where what is fed at a time must depend on nobody."""
    one = Scheduler(Slots(8, 10_000), 100, Residency(100, Maker()), Texts(0, 1), whole=whole)
    waiting = sequence(5, "t", soft=prompt("t", head=(3, 4) if whole else (3, 9)))
    one.add(waiting)
    step = one.schedule()
    (head,) = [chunk.sequence for chunk in step.prefills]
    assert head.is_head
    assert head.resident is not None
    head.fed = 2
    head.resident.cover(object())
    one.finish(head)
    assert one.schedule().admitted == [waiting]
    assert waiting.fed == (2 if whole else 1)


def test_a_soft_prompt_without_room_waits_until_one_is_free() -> None:
    """It is never made beyond the budget; the groups behind it start meanwhile, and it starts when another ends."""
    one = scheduler(budget=10)
    first, second, third = sequence(group="a", soft=prompt("a")), sequence(group="b", soft=prompt("b")), sequence()
    for each in (first, second, third):
        one.add(each)
    assert one.schedule().admitted == [first, third]
    assert one.schedule().admitted == []
    one.finish(first)
    first.end(Finished("length", 0))
    assert one.schedule().admitted == [second]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_large_soft_prompt_is_not_overtaken_for_ever(*, leaves: bool) -> None:
    """Two small ones are in use in turns and never leave room at once; when it has gone, nobody waits for it."""
    one = scheduler(budget=30)
    small = [prompt("a"), prompt("b")]
    large, behind = sequence(group="large", soft=prompt("large", 25)), sequence(group="large", soft=small[0])

    def come(index: int) -> Sequence:
        found = sequence(group=f"small {index}", soft=small[index])
        one.add(found)
        return found

    def end(found: Sequence) -> None:
        one.finish(found)
        found.end(Finished("length", 0))

    running = [come(0), come(1)]
    one.schedule()
    one.add(large)
    one.add(behind)
    started = 0
    for turn in range(3 * OVERTAKEN):
        end(running[turn % 2])
        running[turn % 2] = come(turn % 2)
        started += len(one.schedule().admitted)
        if started == OVERTAKEN:
            break
    assert large.slot < 0
    end(running[0])
    waits = come(0)
    bare = sequence()
    one.add(bare)
    assert one.schedule().admitted == [bare], "no soft prompt overtakes it any more"
    if leaves:
        end(large)
        assert set(one.schedule().admitted) == {waits, behind}
        return
    end(running[1])
    assert one.schedule().admitted == [large]


def test_a_soft_prompt_that_can_never_be_brought_in_fails_its_own() -> None:
    """And nobody else's."""
    one = scheduler()
    bad, good = sequence(group="a", soft=prompt("bad")), sequence(group="b")
    one.add(bad)
    one.add(good)
    step = one.schedule()
    assert [failed for failed, _ in step.failed] == [bad]
    assert step.admitted == [good]
    assert not one.waiting


def test_what_runs_never_needs_more_than_the_area() -> None:
    """Even when all grow as long as they may; a long one is waited for and not overtaken, whoever else waits."""
    one = scheduler(slots=8, area=256)
    short, long, late = [sequence(20, "s", 12) for _ in range(3)], sequence(20, "l", 140), sequence(20, "z", 12)
    for each in (*short, long, late):
        one.add(each)
    assert one.schedule().admitted == short[:1]
    assert one.schedule().admitted == [], "two slots of 160 positions would be more than the area"
    one.finish(short[0])
    assert one.schedule().admitted == [long]
    assert one.schedule().admitted == []
    one.finish(long)
    assert one.schedule().admitted == [late, *short[1:]]


def test_groups_share_the_engine_and_keep_their_own_order() -> None:
    """A group that floods the queue gets its share and no more; what came first in a group starts first."""
    one = scheduler(slots=1)
    flood, guests = [sequence(10, "flood") for _ in range(12)], [sequence(10, "guest") for _ in range(3)]
    for each in (*flood, *guests):
        one.add(each)
    started = []
    while (step := one.schedule()).admitted:
        started += step.admitted
        one.finish(step.admitted[0])
    assert [each.group for each in started[:6]] == ["flood", "guest", "flood", "guest", "flood", "guest"]
    assert [each for each in started if each.group == "flood"] == flood
    assert [each for each in started if each.group == "guest"] == guests


def test_what_was_used_while_nobody_waited_is_held_against_nobody() -> None:
    """One that ran alone for long and one that comes then take turns, also when a third has hardly run."""
    one = scheduler(slots=2)
    alone, little = sequence(10, "alone"), sequence(10, "little")
    one.add(alone)
    one.add(little)
    assert len(one.schedule().admitted) == 2
    for _ in range(500):
        one.generated(alone)
    one.finish(alone)
    one.finish(little)
    for group in ("new", "new", "new", "alone", "alone"):
        one.add(sequence(10, group))
    started = []
    while (step := one.schedule()).admitted:
        started += [each.group for each in step.admitted]
        for each in step.admitted:
            one.finish(each)
    assert started == ["new", "alone", "new", "alone", "new"]


def test_generated_ids_count_twice_and_idle_groups_save_nothing() -> None:
    """A group whose answers are long waits longer; one that comes late starts level with those who wait."""
    one = scheduler(slots=1)
    for group in ("long", "short"):
        for _ in range(40):
            one.add(sequence(10, group))
    counts = {"long": 0, "short": 0, "late": 0}
    for number in range(40):
        if number == 20:
            for _ in range(40):
                one.add(sequence(10, "late"))
        (started,) = one.schedule().admitted
        counts[str(started.group)] += number >= 20
        for _ in range(5 if started.group == "long" else 0):
            one.generated(started)
        one.finish(started)
    assert counts["short"] == counts["late"] == 2 * counts["long"]


def test_a_second_terminal_event_is_refused() -> None:
    """A request ends once."""
    one = sequence()
    one.end(Finished("length", 0))
    with pytest.raises(RuntimeError, match="twice"):
        one.end(Finished("eos", 0))
