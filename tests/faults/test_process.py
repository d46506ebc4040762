"""kill -9 at every system call and at random: old or new, whole; what was acknowledged is there (rows P)."""

import pytest

from tests.faults.conftest import KILLS, Programs
from tests.faults.outcome import Outcome


@pytest.fixture
def killed(programs: Programs) -> list[Outcome]:
    return programs["killed"]


def held(outcomes: list[Outcome], row: str) -> list[str]:
    """What was done in a row; none of it may have broken anything."""
    of_row = [outcome for outcome in outcomes if outcome.row == row]
    assert not [outcome for outcome in of_row if outcome.lost]
    return [outcome.what for outcome in of_row]


@pytest.mark.parametrize("operation", ["first", "new task", "publish", "shared file", "mend"])
def test_p1_a_publish_killed_at_each_call_is_old_or_new(killed: list[Outcome], operation: str) -> None:
    """Every openat, mkdir, write, fsync, flock, link, unlink, close and rename of opening and publishing."""
    points = [what for what in held(killed, "P1") if what.startswith(f"{operation}:")]
    calls = {what.split()[-3] for what in points}
    assert {"openat", "write", "fsync", "flock", "link", "unlink", "close"} <= calls
    assert ("rename" in calls) == (operation == "mend")
    assert len(points) >= 35


def test_p2_a_delete_killed_at_each_call_is_done_or_not(killed: list[Outcome]) -> None:
    """Never half, and what was acknowledged never comes back."""
    assert len(held(killed, "P2")) >= 25


def test_p3_a_rollback_killed_at_each_call_is_done_or_not(killed: list[Outcome]) -> None:
    """The version before or the version after."""
    assert len(held(killed, "P3")) >= 30


def test_p4_a_start_killed_at_each_call_is_made_up_for_by_the_next(killed: list[Outcome]) -> None:
    """Sweeping what dead writers left may itself be killed anywhere."""
    swept = [what for what in held(killed, "P4") if what.startswith("start:")]
    assert any("unlink 3" in what for what in swept)
    assert len(swept) >= 12


def test_p4_a_collection_killed_at_each_call_is_ended_by_the_next(killed: list[Outcome]) -> None:
    """Nothing that a version names is lost, in whatever place it lies."""
    collected = [what for what in held(killed, "P4") if what.startswith("collect:")]
    assert {"link", "unlink", "fsync", "flock"} <= {what.split()[-3] for what in collected}
    assert len(collected) >= 40


def test_p8_random_kills_under_mixed_load_lose_nothing(programs: Programs) -> None:
    """Eight writers publish, delete, roll back and read; every version is somebody's, every acknowledged one there."""
    assert len(held(programs["random"], "P8")) == KILLS // 2


def test_p9_of_two_processes_on_one_store_one_dies(programs: Programs) -> None:
    """The other goes on; nothing that either was told is lost."""
    assert len(held(programs["random"], "P9")) == KILLS // 2
