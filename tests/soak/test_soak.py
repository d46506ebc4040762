"""The soak in small: every sort of request, a stop and a restart in the middle, and what its judgement rests on."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.soak.bad import BAD
from tests.soak.changes import CHANGES
from tests.soak.mix import ASKS, CANCELLED, CHANGED, LEFT, SPOILT, act
from tests.soak.report import verdict, write
from tests.soak.slopes import BOUNDS, MB, Point, lines, not_zero
from tests.soak.soak import begun, soak
from tests.soak.state import Plan, State

REQUESTS, EVERY, STOPPED = 240, 40, 80
MACHINE = {"cpu": "a", "cores": 2, "python": "3", "torch": "2", "command": "python -m tests.soak"}
SMALL = {**BOUNDS, "memory": 128 * MB}
"""Within its first few hundred requests a server still takes up what it will use, which is no slope of anything."""
FLAT = {"memory": 500 * MB, "fds": 20.0, "threads": 9.0, "tasks": 3.0, "running": 0.0, "waiting": 0.0, "temporary": 0.0}


class StopError(Exception):
    """As if the soak had been killed just after it was saved."""


def stop(state: State) -> None:
    if state.done >= STOPPED:
        raise StopError


def grown(name: str, by: float, restart: int = 100) -> list[Point]:
    """A hundred samples of which one figure grows by so much over the second half; a new server has another level."""
    return [
        Point(at >= restart, at * 1000, {**FLAT, name: FLAT[name] * (1 + (at >= restart)) + by * at / 50})
        for at in range(101)
    ]


def test_a_short_soak_leaves_the_server_as_it_was(tmp_path: Path) -> None:
    """Files, threads, tasks of the loop and temporary files at every rest; every answer right; stopped and gone on."""
    plan = Plan(REQUESTS, EVERY, clients=6, seed=1)
    with pytest.raises(StopError):
        soak(begun(tmp_path / "at", plan), tmp_path / "at", 600, stop)
    state = begun(tmp_path / "at", plan)
    assert state.done == STOPPED
    soak(state, tmp_path / "at", 600, lambda _: None)
    assert write(state, MACHINE, tmp_path / "out", SMALL) == []
    assert state.over
    assert sum(state.outcomes.values()) >= REQUESTS
    told = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert told["requests"] == REQUESTS
    assert [done for done, _ in told["starts"]] == [0, STOPPED]
    assert f"started anew after {STOPPED}" in (tmp_path / "out" / "soak.md").read_text()
    assert "</svg>" in (tmp_path / "out" / "soak.svg").read_text()


def test_requests_are_of_every_sort_and_the_same_again() -> None:
    """In the shares that the soak promises, whoever asks for them."""
    kinds = Counter(act(1, number).kind for number in range(20_000))
    left = sum(count for kind, count in kinds.items() if kind.endswith(", left"))
    bad = sum(count for kind, count in kinds.items() if kind.startswith("bad: "))
    changed = sum(kinds[kind] for kind in CHANGES)
    for count, share in ((left, CANCELLED), (bad, SPOILT), (changed, CHANGED)):
        assert 0.85 * share < count / 20_000 < 1.15 * share
    wanted = {*ASKS, *CHANGES, *(f"bad: {name}" for name in BAD), *(f"{name}, left" for name in LEFT)}
    assert set(kinds) == wanted
    assert [act(1, number) for number in range(200)] == [act(1, number) for number in range(200)]
    assert act(1, 0) != act(2, 0)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("restart", [100, 70, 20])
def test_what_grows_beyond_its_bound_is_found_across_restarts(name: str, restart: int) -> None:
    """And what grows by less is not, however much higher the level of another server."""
    assert not lines(grown(name, 1.2 * BOUNDS[name], restart), 100_000)[name].held
    assert lines(grown(name, 0.0, restart), 100_000)[name].growth == pytest.approx(0.0, abs=1e-6)
    assert lines(grown(name, 0.7 * BOUNDS[name], restart), 100_000)[name].held


def test_what_is_not_nothing_at_a_rest_and_too_few_samples_are_said() -> None:
    """A whole soak that cannot be judged is not a good one; one that is to go on is not judged yet."""
    points = grown("fds", 0.0)
    points[7].values["running"] = 2.0
    assert not_zero(points) == ["running was 2 at rest after 7,000 requests"]
    begun = State(Plan(100_000, 1000, 8, 1), done=2000, points=points[:3])
    assert verdict(begun)[1] == []
    begun.done = 100_000
    assert verdict(begun)[1] == ["2 samples of warm servers in the second half are too few for a line"]
