"""Records that outlive the process: whole or not at all, and one owner at a time."""

import json
import resource
import signal
from pathlib import Path

import pytest

from server.errors import Full, Missing
from server.jobs import disk
from server.jobs.files import TRAINING, Files
from server.jobs.records import Job, Records

JOB = Job("ftjob-1", 1.0, "t", {}, "file-1", None, 0, None, None, "f", "op", "d")


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """Until it lets go."""
    held = disk.own(tmp_path / "jobs")
    with pytest.raises(disk.InUseError):
        disk.own(tmp_path / "jobs")
    held.close()
    disk.own(tmp_path / "jobs").close()


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    """And does not spoil the next one."""
    path = tmp_path / "lines"
    disk.append(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2')
    disk.append(path, {"n": 3})
    assert list(disk.lines(path)) == [{"n": 1}, {"n": 3}]
    assert list(disk.lines(tmp_path / "none")) == []


def test_files_are_found_again_and_leavings_are_swept(tmp_path: Path) -> None:
    """Bytes whose record was never written are of an upload that a kill cut short."""
    files = Files(tmp_path / "files", 1000)
    kept = files.add(b"rows", "../a.csv", TRAINING, "op", "digest")
    (tmp_path / "files" / f"file-{'0' * 24}.jsonl").write_bytes(b"half")
    (tmp_path / "files" / f".file-{'1' * 24}.jsonl.fresh").write_bytes(b"half")
    (tmp_path / "files" / "notes.txt").write_text("somebody's own")
    again = Files(tmp_path / "files", 1000)
    assert again.all() == [kept]
    assert again.path(again.get(kept.id)).read_bytes() == b"rows"
    assert again.path(kept).parent == tmp_path / "files"
    assert sorted(path.suffix for path in (tmp_path / "files").iterdir()) == [".csv", ".json", ".txt"]
    again.delete(kept)
    with pytest.raises(Missing):
        again.get(kept.id)
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["notes.txt"]


def test_files_keep_to_their_budget(tmp_path: Path) -> None:
    """One byte more is refused, and room comes back."""
    files = Files(tmp_path / "files", 10)
    first = files.add(b"12345", "a", TRAINING, "1", "")
    files.add(b"12345", "b", TRAINING, "2", "")
    with pytest.raises(Full):
        files.add(b"1", "c", TRAINING, "3", "")
    files.delete(first)
    files.add(b"1", "c", TRAINING, "3", "")


def test_a_job_that_is_over_stays_as_it_ended(tmp_path: Path) -> None:
    """Whoever comes later changes nothing, now or after a restart."""
    records = Records(tmp_path / "jobs")
    records.add(JOB)
    records.checkpoint(JOB.id).write_bytes(b"tensors")
    assert records.cancel(JOB.id) is not None
    assert records.change(JOB.id, status="succeeded") is None
    assert not records.checkpoint(JOB.id).exists()
    fresh = tmp_path / "jobs" / JOB.id / ".checkpoint.safetensors.fresh"
    for left in (records.checkpoint(JOB.id), fresh):  # by a kill in between
        left.write_bytes(b"tensors")
    assert Records(tmp_path / "jobs").get(JOB.id).status == "cancelled"
    assert not records.checkpoint(JOB.id).exists()
    assert not fresh.exists()


def test_a_job_that_is_being_published_cannot_be_cancelled(tmp_path: Path) -> None:
    """Its task may be served already."""
    records = Records(tmp_path / "jobs")
    records.add(JOB)
    assert records.change(JOB.id, publishing=True) is not None
    assert records.cancel(JOB.id) is None
    assert records.get(JOB.id).status == "queued"


DAMAGE = ("{", "{}", "[]", "5", '{"id": 3}', "\xff")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_record_that_is_damaged_is_left_out_and_left_alone(tmp_path: Path, damage: str) -> None:
    """The others are there, and so is what may still be read from it by hand."""
    records, files = Records(tmp_path / "jobs"), Files(tmp_path / "files", 1000)
    records.add(JOB)
    kept, hurt = (files.add(b"rows", "a", TRAINING, str(n), "") for n in range(2))
    (tmp_path / "jobs" / "ftjob-2").mkdir()
    (tmp_path / "jobs" / "ftjob-2" / "job.json").write_text(damage, encoding="latin-1")
    (tmp_path / "files" / f"{hurt.id}.json").write_text(damage, encoding="latin-1")
    assert [job.id for job in Records(tmp_path / "jobs").all()] == [JOB.id]
    assert Files(tmp_path / "files", 1000).all() == [kept]
    assert (tmp_path / "jobs" / "ftjob-2" / "job.json").exists()
    assert files.path(hurt).read_bytes() == b"rows"


def test_a_record_of_a_later_version_is_read(tmp_path: Path) -> None:
    """What it knows more is passed over; numbers that are none are not taken."""
    records = Records(tmp_path / "jobs")
    records.add(JOB)
    path = tmp_path / "jobs" / JOB.id / "job.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "later": 1}))
    assert Records(tmp_path / "jobs").get(JOB.id) == JOB
    path.write_text(json.dumps({**whole, "finished": float("nan")}))
    assert Records(tmp_path / "jobs").all() == []


@pytest.mark.parametrize("line", ["{}", "5", '{"id": "e", "zz": 1}', "[" * 200_000, '{"created": NaN}'])
def test_a_line_of_history_that_is_none_is_passed_over(tmp_path: Path, line: str) -> None:
    """The rest of it is there."""
    records = Records(tmp_path / "jobs")
    records.add(JOB)
    records.tell(JOB.id, "before")
    with (tmp_path / "jobs" / JOB.id / "events.jsonl").open("a") as file:
        file.write(line + "\n")
    records.tell(JOB.id, "after")
    assert [one.message for one in records.history(JOB.id)] == ["before", "after"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A full disk must not stay full of halves."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    records, files = Records(tmp_path / "jobs"), Files(tmp_path / "files", 10**9)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(Full):
            files.add(b"x" * 1000, "a", TRAINING, "op", "")
        with pytest.raises(OSError, match="File too large"):
            records.add(JOB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert list((tmp_path / "files").iterdir()) == list((tmp_path / "jobs").iterdir()) == []
    files.add(b"x" * 1000, "a", TRAINING, "op", "")


def test_the_oldest_that_is_over_is_forgotten_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits or runs stays."""
    monkeypatch.setattr("server.jobs.records.MAX_JOBS", 2)
    records = Records(tmp_path / "jobs")
    for number in range(4):
        name = f"ftjob-{number}"
        records.add(Job(name, float(number), *[getattr(JOB, field) for field in list(Job.__slots__)[2:12]]))
        if number in {1, 2}:
            records.cancel(name)
    assert [job.id for job in records.all()] == ["ftjob-0", "ftjob-3"]
    assert not (tmp_path / "jobs" / "ftjob-1").exists()
