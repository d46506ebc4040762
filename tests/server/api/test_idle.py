"""Who makes room first."""

from server.api.idle import Idle, Rank


def test_the_silent_go_first_then_the_longest() -> None:
    """Whoever is answered is no candidate, and who was answered begins anew."""
    idle: Idle[str] = Idle()
    for name, rank in (("begun", Rank.BEGUN), ("kept", Rank.KEPT), ("one", Rank.SILENT), ("two", Rank.SILENT)):
        idle.put(name, rank)
    idle.put("later", Rank.KEPT)
    order = ["one", "two", "kept", "later", "begun"]
    assert list(idle.in_turn()) == order
    for name in order:
        idle.take(name)
    idle.take("never there")
    idle.put("one", Rank.SILENT)
    idle.put("one", Rank.KEPT)
    assert list(idle.in_turn()) == ["one"]
    idle.take("one")
    assert not list(idle.in_turn())
