"""Power cuts on XFS and on ext4: what was acknowledged is there when the power comes back (rows W)."""

import pytest

from tests.faults.conftest import CUTS, Programs
from tests.faults.failpoints import Without
from tests.faults.mounts import FILE_SYSTEMS, PRIVATE, FileSystem, demand_mounts
from tests.faults.operations import OPERATIONS
from tests.faults.outcome import Outcome, telling
from tests.tools import tool

pytestmark = pytest.mark.parametrize("kind", FILE_SYSTEMS)
BEFORE_A_LOSS = 120
"""Cuts within which a store without fsync has to be found out."""


@pytest.fixture
def cuts(programs: Programs, kind: FileSystem) -> list[Outcome]:
    demand_mounts()
    tool(f"mkfs.{kind}")
    found = programs[kind]
    assert len(found) == CUTS
    return found


def held(cuts: list[Outcome], row: str) -> int:
    """How many cuts of a row there were; none of them may have broken anything."""
    of_row = [cut for cut in cuts if cut.row == row]
    assert not [cut for cut in of_row if cut.lost]
    return len(of_row)


def test_w1_what_was_acknowledged_survives(cuts: list[Outcome]) -> None:
    """The power goes right after the answer, for uploads, rollbacks and mended files alike."""
    assert held(cuts, "W1") == 5


def test_w2_a_cut_at_each_step_leaves_old_or_new(cuts: list[Outcome]) -> None:
    """Before every write, fsync, link and unlink of every operation, with the journal lost and with it kept."""
    assert held(cuts, "W2") >= 100
    for name in OPERATIONS:
        of_operation = [cut.what for cut in cuts if cut.row in {"W2", "W5"} and cut.what.startswith(f"{name}:")]
        assert len({what.rsplit(" ", 1)[1] for what in of_operation}) == 2, name


def test_w3_what_was_deleted_stays_deleted(cuts: list[Outcome]) -> None:
    """The power goes right after the answer to a delete."""
    assert held(cuts, "W3") == 1


def test_w4_a_first_upload_survives_with_its_new_folders(cuts: list[Outcome]) -> None:
    """Of a new store, and of a new task of an old one."""
    assert held(cuts, "W4") == 2


def test_w5_a_cut_in_a_collection_loses_nothing_that_is_named(cuts: list[Outcome]) -> None:
    """Before each of its calls and after the last: the next one ends what it began."""
    assert held(cuts, "W5") >= 20


def test_w6_every_acknowledgement_holds_under_eight_writers(cuts: list[Outcome]) -> None:
    """Two processes of four threads publish, delete, roll back and read when the power goes."""
    assert held(cuts, "W6") == 20


@pytest.mark.parametrize("without", ["file", "folders", "all"])
def test_w7_a_store_without_fsync_is_found_out(kind: FileSystem, without: Without) -> None:
    """The same cuts find a loss when the fsync of files, of folders or of both does nothing: they are not blind."""
    demand_mounts()
    tool(f"mkfs.{kind}")
    options = ("--fs", kind, "--cuts", str(BEFORE_A_LOSS), "--without", without)
    with telling("power", *options, under=PRIVATE) as cuts:
        assert any(cut.lost for cut in cuts)
