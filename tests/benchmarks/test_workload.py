"""The workload: the same for every peer and every run."""

from pathlib import Path

from benchmarks.workload import TINY, Workload


def test_neighbours_in_a_batch_are_of_different_tasks() -> None:
    """As many requests as there are tasks are of one task each."""
    workload = Workload()
    assert {job.task for job in workload.jobs(32)} == set(range(32))


def test_more_requests_begin_with_the_same_ones() -> None:
    """A longer run repeats the shorter one's requests, so that answers of different runs can be compared."""
    workload = Workload()
    assert workload.jobs(8)[:4] == workload.jobs(4)
    assert all(len(job.ids) == workload.input_tokens for job in workload.jobs(8))


def test_soft_prompts_differ() -> None:
    """Every task has rows of its own, float32 [tasks, length, hidden]."""
    rows = TINY.rows()
    assert rows.shape == (TINY.tasks, TINY.length, TINY.shape.hidden)
    assert len({row.tobytes() for row in rows}) == TINY.tasks


def test_the_base_is_written_once(tmp_path: Path) -> None:
    """A second run reads the checkpoint that the first one wrote."""
    weights = TINY.shape.write(tmp_path) / "model.safetensors"
    written = weights.stat().st_mtime_ns
    TINY.shape.write(tmp_path)
    assert weights.stat().st_mtime_ns == written
