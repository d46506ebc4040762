"""Whose turn it is: owners share the engine, an owner's groups its part, and a group goes in the order it came."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.engine.queues import MAX_COUNTERS, Queues
from server.engine.sequence import Sequence
from tests.server.engine.test_accounting import sequence


def waiting(queues: Queues, owner: str | None, group: str, count: int) -> list[Sequence]:
    """So many more of one owner and group."""
    some = [sequence(owner=owner, group=group) for _ in range(count)]
    for one in some:
        queues.add(one)
    return some


def served(queues: Queues, count: int, cost: int = 10) -> list[tuple[object, object]]:
    """Owner and group of the next so many, each of which costs the same."""
    found = []
    turns = queues.turns()
    for _ in range(count):
        first = turns.first()
        if first is None:
            break
        found.append((first.owner, first.group))
        turns.take(cost)
    return found


def test_owners_share_alike_however_many_groups_they_have() -> None:
    """One with twenty tasks gets no more than one with a single task."""
    queues = Queues()
    for number in range(20):
        waiting(queues, "many", str(number), 5)
    waiting(queues, "one", "t", 40)
    assert Counter(owner for owner, _ in served(queues, 60)) == {"many": 30, "one": 30}


def test_groups_share_their_owner_s_part_alike() -> None:
    """Whoever of them floods."""
    queues = Queues()
    waiting(queues, "a", "flood", 100)
    waiting(queues, "a", "quiet", 10)
    waiting(queues, "b", "t", 100)
    found = Counter(served(queues, 40))
    assert found == {("a", "flood"): 10, ("a", "quiet"): 10, ("b", "t"): 20}


def test_what_is_generated_is_charged_to_owner_and_group() -> None:
    """Long answers count while they run, not only when they start."""
    queues = Queues()
    running = sequence(owner="long", group="t")
    waiting(queues, "long", "t", 5)
    waiting(queues, "short", "t", 5)
    queues.charge(running, 25)
    assert served(queues, 4) == [("short", "t")] * 3 + [("long", "t")]


def test_an_owner_that_comes_back_starts_level() -> None:
    """It has saved up nothing while it was away."""
    queues = Queues()
    waiting(queues, "here", "t", 60)
    served(queues, 20)
    waiting(queues, "back", "t", 40)
    assert Counter(owner for owner, _ in served(queues, 20)) == {"here": 10, "back": 10}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 30)), min_size=1, max_size=40))
def test_every_turn_is_the_least_user_s(crowd: list[tuple[str, str, int]]) -> None:
    """Whatever each costs: at no turn does anybody wait whose owner, or whose group of that owner, has used less."""
    queues = Queues()
    for owner, group, _ in crowd:
        queues.add(sequence(owner=owner, group=group))
    turns = queues.turns()
    for _, _, cost in crowd:
        first = turns.first()
        assert first is not None
        assert queues.entry(first.owner, first.group) == min(queues.entries(), key=lambda entry: entry[:3])
        turns.take(cost)
    assert turns.first() is None
    assert not queues


def test_any_number_of_owners_and_groups_may_come_and_go() -> None:
    """Their counters are forgotten, the oldest first."""
    queues = Queues()
    for number in range(MAX_COUNTERS + 100):
        one = sequence(owner=str(number), group=str(number))
        queues.add(one)
        queues.remove(one)
    assert len(queues._groups) == len(queues._owners._used) == MAX_COUNTERS
