"""Who was let through and has not come yet: nobody else finds its place, and nobody keeps one for nothing."""

from contextlib import suppress

import pytest

from server.engine.admission import Admission, Load, Place
from server.engine.request import OwnerFull, QueueFull
from tests.server.engine.test_admission import PLENTY, asked, fill

MANY = 1000
"""More than find a place anywhere here."""


def test_who_is_expected_has_a_place_until_it_leaves_it() -> None:
    """Nobody who is asked later finds the same one; who enters anyway does, expected or not."""
    admission = Admission(Load(6, PLENTY))
    places = expected(admission, "a")
    assert len(places) == len(expected(admission, "b")) == 2
    admission.check("a", "t")
    assert admission.waiting == Load()
    for _ in range(3):
        places[0].leave()
    assert len(expected(admission, "a")) == 1
    assert fill(admission, "c") == 2


def test_an_owner_expects_no_more_of_many_tasks_than_of_itself() -> None:
    """Each task's first would always find a place; all together they are the owner's."""
    admission = Admission(Load(8, PLENTY))
    places = [place for number in range(20) for place in expected(admission, "a", str(number))]
    assert len(places) == 4
    for place in places:
        place.leave()
    assert admission._coming.all == Load()
    assert not any((admission._coming._owners, admission._coming._groups))


def test_who_finds_all_places_taken_is_told_that_it_is_not_its_own_doing() -> None:
    """By those who are still to come, too."""
    admission = Admission(Load(1, PLENTY))
    admission.expect("a", "t")
    with pytest.raises(QueueFull) as full:
        admission.expect("b", "t")
    assert not isinstance(full.value, OwnerFull)


def test_who_is_expected_counts_as_one_of_those_who_wait() -> None:
    """Where tokens are what fills the room, as many are let through as there would be let in."""
    admission = Admission(Load(PLENTY, 900))
    fill(admission, "a", "t", length=50)
    admission.enter([asked("b", length=50)])
    places = expected(admission, "b")
    assert len(places) == fill(admission, "b", length=50) > 1


def test_who_comes_while_nobody_waits_has_a_slot_as_long_as_there_are_some() -> None:
    """Whoever it is, and however many may wait; who is given none may still find a place to wait at."""
    admission = Admission(Load(3, PLENTY))
    begun = [admission.at_once(2) for _ in range(4)]
    assert [place is not None for place in begun] == [True, True, False, False]
    assert len(expected(admission, "a")) == 1
    for _ in range(2):
        begun[0].leave()  # type: ignore[union-attr]
    assert [admission.at_once(2) is not None for _ in range(2)] == [True, False]


def test_who_comes_while_somebody_waits_has_no_slot() -> None:
    """The slots are for those who came before."""
    admission = Admission(Load(3, PLENTY))
    one = asked("a")
    admission.enter([one])
    assert admission.at_once(2) is None
    admission.leave(one, started=True)
    assert admission.at_once(2) is not None


def test_who_waits_with_most_of_the_tokens_shuts_out_nobody() -> None:
    """Neither as what others are measured by, nor as what those stand for who are on their way."""
    admission = Admission(Load(PLENTY, 6400))
    whole = Admission(Load(PLENTY, 6400))
    whole.enter([asked("a", length=6300)])
    whole.expect("b", "t")
    admission.enter([asked("a", length=4000)])
    for owner, others in (("b", "c"), ("c", "d")):
        assert expected(admission, owner)
        admission.expect(others, "t")


def expected(admission: Admission, owner: str, group: str = "t") -> list[Place]:
    """Of one owner and group as many as are let through before one is not."""
    places: list[Place] = []
    with suppress(QueueFull):
        while len(places) < MANY:
            places.append(admission.expect(owner, group))
    return places
