"""Which soft prompts are in memory: by use, by bytes, and never more than the budget."""

import pytest

from server.engine.residency import Residency, Resident, Unloadable
from tests.server.engine.test_accounting import Maker, prompt


def held(residency: Residency, names: str) -> list[str]:
    return [name for name in names if residency.peek(f"{name}/10")]


def test_the_least_recently_used_resident_leaves_first() -> None:
    """Within the bytes of the budget, use decides who stays."""
    residency = Residency(30, Maker())
    for name in "abcad":
        found = residency.hold(prompt(name))
        assert found is not None
        found.users -= 1
    assert held(residency, "abcd") == ["a", "c", "d"]
    assert residency.bytes == 30


def test_a_resident_in_use_is_never_evicted() -> None:
    """While all are, a newcomer has to wait and nothing is lost."""
    residency = Residency(20, Maker())
    for name in "ab":
        assert residency.hold(prompt(name)) is not None
    assert residency.hold(prompt("c")) is None
    assert held(residency, "abc") == ["a", "b"]
    assert residency.bytes == 20


def test_who_is_dropped_in_use_takes_room_until_its_last_user_ends() -> None:
    """A version that was replaced is in memory as long as somebody is answered with it."""
    residency = Residency(20, Maker())
    old = residency.hold(prompt("old"))
    assert old is not None
    residency.drop("old/10")
    assert residency.peek("old/10") is None
    assert residency.bytes == 10
    assert residency.hold(prompt("new")) is not None
    assert residency.hold(prompt("more")) is None
    old.users -= 1
    assert residency.bytes == 10
    assert residency.hold(prompt("more")) is not None


def test_a_pinned_resident_leaves_last() -> None:
    """Only what is in use drives it out, and it is pinned when it comes again."""
    residency = Residency(20, Maker())

    def use(name: str) -> Resident:
        found = residency.hold(prompt(name))
        assert found is not None
        found.users -= 1
        return found

    residency.pin("a/10")
    for name in "abcd":
        use(name)
    assert held(residency, "abcd") == ["a", "d"]
    use("d").users += 1
    last = use("e")
    last.users += 1
    assert held(residency, "ade") == ["d", "e"]
    residency.drop("e/10")
    last.users -= 1
    use("d").users -= 1
    for name in "abc":
        use(name)
    assert held(residency, "abcd") == ["a", "c"], "it came again, pinned"
    residency.unpin("a/10")
    use("b")
    assert held(residency, "abc") == ["b", "c"]


def test_what_can_never_be_resident_says_so() -> None:
    """A soft prompt larger than the budget, whatever is pinned, and one that cannot be made."""
    residency = Residency(20, Maker())
    with pytest.raises(Unloadable, match="21 bytes of memory"):
        residency.hold(prompt("large", 21))
    with pytest.raises(Unloadable):
        residency.hold(prompt("bad"))
    assert residency.bytes == 0
