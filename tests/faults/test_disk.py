"""Disks that are full, broken, read-only, or gone: a typed answer, nothing half done, and readers go on (rows D)."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from prompt_store.local import TEMPORARY
from tests.e2e.process import Process
from tests.faults.conftest import Programs
from tests.faults.mounts import FILE_SYSTEMS, LOG_LOST, FileSystem, cut, demand_mounts, image, tmpfs
from tests.faults.outcome import Outcome
from tests.prompt_store.test_failing_disk import file_size_limit
from tests.server.site import Site, embeddings, until
from tests.server.site import site as running
from tests.tools import tool

HUGE = embeddings(None, "{input}", 200, seed=7).data
"""51 KB."""


def code(site: Site, task: str) -> str:
    answer = site.http.post("/generate", json={"task": task, "inputs": "x", "parameters": {"max_new_tokens": 1}})
    return f"{answer.status_code} {answer.json()['error']['code']}" if answer.is_error else str(answer.status_code)


def put(site: Site, task: str, data: bytes) -> tuple[int, str]:
    answer = site.http.put(f"/tasks/{task}", content=data)
    return answer.status_code, answer.json()["error"]["code"] if answer.is_error else ""


@contextmanager
def small(base_folder: Path, at: Path, options: str) -> Iterator[tuple[Site, Path]]:
    """A server whose store is on a disk as small as `options` say."""
    demand_mounts()
    with tmpfs(at, options) as disk, running(base_folder, disk / "store", freshness_seconds=0) as site:
        site.publish("known", "play {text}", soft=2)
        yield site, disk


def held(outcomes: list[Outcome], row: str) -> list[str]:
    of_row = [outcome for outcome in outcomes if outcome.row == row]
    assert not [outcome for outcome in of_row if outcome.lost]
    return [outcome.what for outcome in of_row]


def test_d1_a_full_disk_refuses_and_serves(base_folder: Path, tmp_path: Path) -> None:
    """A megabyte, filled: 507, the old version served, no temporary file, and room again once there is some."""
    with small(base_folder, tmp_path / "disk", "size=1m") as (site, disk):
        ballast = disk / "ballast"
        _fill(ballast)
        assert put(site, "known", HUGE) == (507, "store_full")
        assert put(site, "other", HUGE) == (507, "store_full")
        assert list((disk / "store" / TEMPORARY).iterdir()) == []
        assert site.generate("x", "known", max_new_tokens=1)["version"] == 1
        assert code(site, "other") == "404 task_not_found"
        ballast.unlink()
        assert put(site, "known", HUGE)[0] == 201
        assert site.generate("x", "known", max_new_tokens=1)["version"] == 2


def test_d1_no_space_at_each_call_changes_nothing(programs: Programs) -> None:
    """Of every operation: refused and as before, or done; no file left open, no temporary one after a start."""
    assert len(held(programs["failed"], "D1")) >= 250


def test_d2_no_inodes_left_refuses_and_serves(base_folder: Path, tmp_path: Path) -> None:
    """As with no space: 507, and nothing of it is kept."""
    with small(base_folder, tmp_path / "disk", "nr_inodes=20") as (site, disk):
        ballast = [disk / f"ballast{number}" for number in range(20)]
        with suppress(OSError):
            for each in ballast:
                each.touch()
        assert os.statvfs(disk).f_ffree == 0
        assert put(site, "known", HUGE) == (507, "store_full")
        assert site.generate("x", "known", max_new_tokens=1)["version"] == 1
        for each in ballast:
            each.unlink(missing_ok=True)
        assert put(site, "known", HUGE)[0] == 201


def test_d3_an_io_error_at_each_call_changes_nothing(programs: Programs) -> None:
    """A typed error, no version; the fsync that failed is not tried again, as the kernel would call lost pages kept."""
    failed = held(programs["failed"], "D3")
    assert {what.split()[-3] for what in failed} >= {"openat", "write", "fsync", "flock", "link", "rename"}
    assert len(failed) >= 250


def test_d4_a_failing_fsync_of_a_folder_is_no_answer(programs: Programs) -> None:
    """The outcome is unknown, and the same operation again makes no second version."""
    failed = held(programs["failed"], "D4")
    assert sum("fsync" in what for what in failed) >= 12


def test_d5_no_files_no_right_and_read_only_are_typed(programs: Programs) -> None:
    """EMFILE, EACCES and EROFS at each call of a first publish."""
    assert len(held(programs["refused"], "D5")) >= 120


def test_d5_a_read_only_disk_serves(base_folder: Path, tmp_path: Path) -> None:
    """Remounted while the server runs: 503, reads go on, and it writes again when the disk does."""
    with small(base_folder, tmp_path / "disk", "size=8m") as (site, disk):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert put(site, "known", HUGE) == (503, "store_unavailable")
        assert site.http.delete("/tasks/known").status_code == 503
        assert site.generate("x", "known", max_new_tokens=1)["version"] == 1
        assert code(site, "unknown") == "404 task_not_found"
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert put(site, "known", HUGE)[0] == 201


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_d6_a_disk_that_is_gone_leaves_what_is_in_memory(base_folder: Path, tmp_path: Path, kind: FileSystem) -> None:
    """Every read is EIO: tasks in memory are served, the others are 503 and counted, none is "not found"."""
    demand_mounts()
    tool(f"mkfs.{kind}")
    with (
        image(tmp_path, kind) as disk,
        running(base_folder, disk.at / "store", freshness_seconds=0, prompt_budget=2 * 2**20) as site,
    ):
        site.publish("known", "play {text}", soft=2)
        assert code(site, "known") == "200"
        assert code(site, "unknown") == "404 task_not_found"
        cut(disk.at, LOG_LOST)
        assert code(site, "known") == "200"
        assert code(site, "unknown") == "503 store_unavailable"
        assert put(site, "known", HUGE) == (503, "store_unavailable")
        assert site.http.get("/tasks").status_code == 503
        assert site.http.get("/livez").status_code == 200
        assert 'softprompt_request_failed_total{code="store_unavailable"} 1.0' in site.http.get("/metrics").text
        site.desk.room.running.engine.drop(_digest(site))
        assert code(site, "known") == "503 store_unavailable"
        assert 'softprompt_prompt_load_failed_total{code="store_unavailable"} 1.0' in site.http.get("/metrics").text


def _digest(site: Site) -> str:
    """Of the task that is known, from what the server remembers."""
    return str(site.http.get("/tasks/known").json()["digest"])


def test_d9_a_disk_full_of_logs_stops_no_request(base_folder: Path, tmp_path: Path) -> None:
    """What cannot be logged is lost; requests are not."""
    demand_mounts()
    with tmpfs(tmp_path / "logs", "size=64k") as disk:
        log = disk / "log"
        under = ["sh", "-c", f'exec "$@" 2>>{log}', "sh"]
        process = Process("--model", str(base_folder), "--store", str(tmp_path / "store"), under=under)
        try:
            until(lambda: log.exists() and '"ready"' in log.read_text(), "ready")
            url = next(json.loads(line)["url"] for line in log.read_text().splitlines() if '"ready"' in line)
            _fill(disk / "ballast")
            process.url = url
            with process.client() as client:
                size = log.stat().st_size
                for number in range(10):
                    assert client.put(f"/tasks/t{number}", json={"template": "{input}"}).status_code == 201
                assert client.post("/generate", json={"task": "t0", "inputs": "x"}).status_code == 200
                assert log.stat().st_size - size < 4096, "the disk was not full"
                (disk / "ballast").unlink()
                assert client.get("/tasks/t0").status_code == 200
                assert log.stat().st_size > size
        finally:
            assert process.end() == 0


def test_d10_a_quota_refuses_and_serves(base_folder: Path, tmp_path: Path) -> None:
    """The kernel's own limit on the size of a file: 507, and nothing of it is kept."""
    with running(base_folder, tmp_path / "store", freshness_seconds=0) as site:
        site.publish("known", "play {text}", soft=2)
        with file_size_limit(len(HUGE) - 1):
            assert put(site, "known", HUGE) == (507, "store_full")
        assert list((tmp_path / "store" / TEMPORARY).iterdir()) == []
        assert site.generate("x", "known", max_new_tokens=1)["version"] == 1
        assert put(site, "known", HUGE)[0] == 201


def test_d10_an_exceeded_quota_at_each_call_changes_nothing(programs: Programs) -> None:
    """EDQUOT is as good as no space."""
    assert len(held(programs["refused"], "D10")) >= 40


def _fill(ballast: Path) -> None:
    """Take all that is left of a disk."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(ballast).f_bavail == 0
