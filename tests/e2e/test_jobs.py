"""A job and the process that runs it: restarts in the middle, other bases, two servers on one folder."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.e2e.process import Process, serving
from tests.server.jobs.asking import create, method
from tests.server.jobs.conftest import client_of
from tests.server.site import until

STEPS = {"steps": 120, "batch_size": 4, "evaluate_every": 20, "warmup": 1, "length": 3, "patience": 1000}


def options(base: Path, folder: Path) -> tuple[tuple[str, ...], Mapping[str, str]]:
    return ("--model", str(base), "--store", str(folder / "store")), {
        "SOFTPROMPT_JOBS": str(folder / "jobs"),
        "SOFTPROMPT_JOBS_SAVE_SECONDS": "0.1",
    }


def until_status(folder: Path, job: str, *wanted: str) -> None:
    """Looks at the disk: whoever asks the server all the time keeps it from learning."""
    record = folder / "jobs" / "jobs" / job / "job.json"
    until(lambda: json.loads(record.read_text())["status"] in wanted, " or ".join(wanted), 120)


def until_it_learns(folder: Path, job: str) -> None:
    history = folder / "jobs" / "jobs" / job / "events.jsonl"
    until(lambda: "valid_accuracy" in history.read_text(), "an evaluation", 120)


@pytest.mark.parametrize("wanted", [method(told=STEPS), method("hard", {"budget": 4_000, "instructions": "Say it"})])
def test_a_job_survives_a_kill_and_a_restart_and_learns_what_it_would_have(
    base_folder: Path, tmp_path: Path, wanted: Any
) -> None:
    """Killed in the middle it goes on by itself, and becomes the very bytes of a run that was left alone."""
    given, variables = options(base_folder, tmp_path)
    with serving(*given, **variables) as (_, http):
        client = client_of(str(http.base_url))
        alone = create(client, "alone", wanted, seed=5)
        file = alone.training_file
        until_status(tmp_path, alone.id, "succeeded")

    process = Process(*given, **variables)
    with process.wait_until_ready() as http:
        client = client_of(str(http.base_url))
        job = create(client, "killed", wanted, file, seed=5)
        until((tmp_path / "jobs" / "jobs" / job.id / "checkpoint.safetensors").exists, "a checkpoint", 120)
    process.send(signal.SIGKILL)
    process.wait()

    with serving(*given, **variables) as (_, http):
        client = client_of(str(http.base_url))
        until_status(tmp_path, job.id, "succeeded", "failed")
        digests = {http.get(f"/tasks/{task}").json()["digest"] for task in ("alone", "killed")}
        assert len(digests) == 1
        events = client.fine_tuning.jobs.list_events(job.id, limit=1000).data
        said = [event.message for event in events]
        begun = sum(one.startswith("step 0:") for one in said)
        assert begun == (wanted["type"] != "hard")  # it went on, and did not begin again
        assert "the server started again: the job waits for its turn" in said


def test_an_orderly_end_does_not_wait_for_a_job_and_counts_for_nothing(base_folder: Path, tmp_path: Path) -> None:
    """SIGTERM leaves at once, more often than a job may be interrupted; the job is still there to go on."""
    given, variables = options(base_folder, tmp_path)
    variables = {**variables, "SOFTPROMPT_JOBS_SAVE_SECONDS": "3600"}
    job = ""
    for _ in range(4):
        with serving(*given, **variables) as (_, http):
            client = client_of(str(http.base_url))
            job = job or create(client, "patient", method(told={**STEPS, "steps": 90_000, "evaluate_every": 90})).id
            until_status(tmp_path, job, "running")
            until_it_learns(tmp_path, job)
    folder = tmp_path / "jobs" / "jobs" / job
    record = json.loads((folder / "job.json").read_text())
    assert (record["status"], record["attempts"]) == ("queued", 0)
    assert (folder / "checkpoint.safetensors").exists()  # of the very moment: none was due


def test_a_job_that_its_server_never_survives_fails(base_folder: Path, tmp_path: Path) -> None:
    """It may be what ends the server: after three starts it is given up."""
    given, variables = options(base_folder, tmp_path)
    job = ""
    for _ in range(3):
        process = Process(*given, **variables)
        with process.wait_until_ready() as http:
            client = client_of(str(http.base_url))
            job = job or create(client, "deadly", method(told={**STEPS, "steps": 90_000, "evaluate_every": 90})).id
            until_status(tmp_path, job, "running")
        process.send(signal.SIGKILL)
        process.wait()
    with serving(*given, **variables) as (_, http):
        done = client_of(str(http.base_url)).fine_tuning.jobs.retrieve(job)
    assert done.status == "failed"
    assert done.error is not None
    assert done.error.code == "interrupted"


def test_a_job_of_another_base_fails_and_a_second_server_has_no_jobs(base_folder: Path, tmp_path: Path) -> None:
    """The reason is said; the second server serves all the same."""
    given, variables = options(base_folder, tmp_path)
    with serving(*given, **variables) as (_, http):
        client = client_of(str(http.base_url))
        job = create(client, "moved", method(told={**STEPS, "steps": 90_000, "evaluate_every": 90})).id
        with serving("--model", str(base_folder), "--store", "memory://", **variables) as (_, second):
            answer = second.get("/v1/fine_tuning/jobs")
            assert answer.json()["error"]["message"] == "another server has these jobs"
            assert second.get("/readyz").status_code == 200
    other = models.save(tmp_path / "other", "qwen3")
    given, _ = options(other, tmp_path)
    with serving(*given, **variables) as (_, http):
        done = client_of(str(http.base_url)).fine_tuning.jobs.retrieve(job)
    assert done.error is not None
    assert (done.status, done.error.code) == ("failed", "interrupted")
