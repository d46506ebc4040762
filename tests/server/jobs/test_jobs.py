"""Tasks learnt by a running server, asked for by OpenAI's own client over a real socket."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.server.jobs.asking import LONG, QUICK, ROWS, create, ended, method, running, status, upload
from tests.server.jobs.conftest import client_of
from tests.server.site import Site, until
from tests.server.site import site as running_site
from tests.tuning.conftest import LABELS

SERVED = ("design", "hard", "prompt_tuning", "p_tuning", "prefix_tuning", "llama_adapter")
TEXT: dict[str, dict[str, Any]] = {
    "design": {"shots": 1, "draws": 2},
    "hard": {"instructions": "Answer", "budget": 1200},
}


@pytest.mark.parametrize("kind", SERVED)
def test_every_method_becomes_a_task_that_answers_within_a_second(
    learning: Site, client: openai.OpenAI, kind: str
) -> None:
    """From the file to the answer; the labels found in the rows are the task's."""
    job = create(client, f"learnt-{kind}", method(kind, TEXT.get(kind, QUICK)))
    done = ended(client, job.id)
    finished = time.monotonic()
    assert (done.status, done.error) == ("succeeded", None)
    assert done.fine_tuned_model == f"learnt-{kind}"
    answer = learning.http.post("/classify", json={"task": f"learnt-{kind}", "inputs": {"text": "rain?"}})
    assert time.monotonic() - finished < 1
    assert answer.status_code == 200, answer.text
    assert {score["label"] for score in answer.json()["scores"]} == set(LABELS)
    assert learning.generate({"text": "rain?"}, f"learnt-{kind}", max_new_tokens=2)["version"] == 1


def test_words_are_searched_for_free_text_too(client: openai.OpenAI) -> None:
    """Its rounds have a loss and no other figure."""
    told = {"instructions": "Answer", "budget": 1200, "max_new_tokens": 4}
    job = create(client, "free", method("hard", told, labels="none"))
    assert ended(client, job.id).status == "succeeded"
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id).data]
    assert any("rows scored: loss" in one for one in said)


def test_a_job_tells_what_it_does(client: openai.OpenAI) -> None:
    """Its settings, its history newest first, the best so far, and every evaluation as a file."""
    file = upload(client)
    job = create(client, "told", file=file.id, seed=7, metadata={"team": "a"})
    assert (job.object, job.status, job.seed, job.training_file) == ("fine_tuning.job", "queued", 7, file.id)
    assert (job.model, job.metadata, job.finished_at) == ("base", {"team": "a"}, None)
    done = ended(client, job.id)
    assert done.finished_at is not None
    assert done.finished_at >= done.created_at
    assert done.trained_tokens is not None
    assert done.trained_tokens > 0

    events = list(client.fine_tuning.jobs.list_events(job.id))
    assert [event.message for event in events[::-1]][:2] == ["the job waits for its turn", "the job runs"]
    assert events[0].message == "the task is served: version 1"
    figures: list[Any] = [event.data for event in events[::-1] if event.type == "metrics"]
    assert [one["step"] for one in figures] == [0, 2, 4]
    assert all(0 <= one["valid_accuracy"] <= 1 for one in figures)

    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    best = max(figures, key=lambda one: one["valid_accuracy"])
    assert checkpoint.fine_tuned_model_checkpoint == "told"
    assert dict(checkpoint.metrics)["valid_accuracy"] == best["valid_accuracy"]

    (results,) = done.result_files
    rows = list(csv.DictReader(io.StringIO(client.files.content(results).text)))
    assert [float(row["valid_accuracy"]) for row in rows] == [one["valid_accuracy"] for one in figures]


def test_lists_are_read_page_by_page(client: openai.OpenAI) -> None:
    """Newest first, by what was told with them, and each once."""
    names = [create(client, "paged", metadata={"list": "paged"}).id for _ in range(3)]
    first = client.fine_tuning.jobs.list(limit=2, extra_query={"metadata[list]": "paged"})
    assert [job.id for job in first] == names[::-1]  # the client turns the pages
    assert [job.id for job in first.data] == names[:0:-1]
    assert first.has_more
    for name in names:
        ended(client, name)
    events = client.fine_tuning.jobs.list_events(names[0], limit=2)
    assert len(events.data) == 2
    assert len({event.id for event in events}) == len(list(events)) > 2


def test_the_same_settings_and_seed_give_the_same_task(learning: Site, client: openai.OpenAI) -> None:
    """Byte for byte, and so it stays one version."""
    file = upload(client)
    for _ in range(2):
        assert ended(client, create(client, "twice", file=file.id, seed=3).id).status == "succeeded"
    versions = learning.http.get("/tasks/twice/versions").json()["data"]
    assert [version["version"] for version in versions] == [1]


def test_a_task_that_exists_gets_a_new_version(learning: Site, client: openai.OpenAI) -> None:
    """Of the version it had when the job was created."""
    learning.publish("known", "{text}")
    done = ended(client, create(client, "known").id)
    assert done.status == "succeeded"
    assert learning.http.get("/tasks/known").json()["version"] == 2


@pytest.mark.parametrize("before", ["absent", "present", "deleted meanwhile"])
def test_what_was_published_meanwhile_is_never_replaced(learning: Site, client: openai.OpenAI, before: str) -> None:
    """The job fails as superseded, and the task is as somebody else left it."""
    task = f"raced-{before.replace(' ', '-')}"
    if before != "absent":
        learning.publish(task, "{text}", seed=1, soft=2)
    blocking = create(client, "blocking", method(told=LONG))
    job = create(client, task)
    if before == "deleted meanwhile":
        learning.http.delete(f"/tasks/{task}")
    else:
        learning.publish(task, "{text}!", seed=2, soft=2)
    left = learning.http.get(f"/tasks/{task}").json()
    client.fine_tuning.jobs.cancel(blocking.id)
    done = ended(client, job.id)
    assert done.status == "failed"
    assert done.error is not None
    assert done.error.code == "superseded"
    now = learning.http.get(f"/tasks/{task}").json()
    assert now.get("digest") == left.get("digest")
    assert now.get("version") == left.get("version")


def test_a_job_that_diverges_fails_and_publishes_nothing(base_folder: Path, tmp_path: Path) -> None:
    """In half precision a wild rate overflows: the reason is said, and the next job runs."""
    jobs = str(tmp_path / "jobs")
    with running_site(base_folder, "memory://", jobs=jobs, dtype="float16") as site, client_of(site.url) as client:
        wild = method("p_tuning", {**QUICK, "steps": 40, "learning_rate": 1000.0})
        done = ended(client, create(client, "wild", wild).id)
        assert done.error is not None
        assert (done.status, done.error.code) == ("failed", "diverged")
        assert "lower learning rate" in done.error.message
        assert site.http.get("/tasks/wild").status_code == 404
        assert ended(client, create(client, "tame").id).status == "succeeded"


def test_a_label_may_hold_a_comma(learning: Site, client: openai.OpenAI) -> None:
    """A list is taken as it is."""
    rows = "".join(json.dumps({"text": f"words {n}", "target": ("yes, please", "no")[n % 2]}) + "\n" for n in range(20))
    job = create(client, "comma", method(labels=["yes, please", "no"]), upload(client, rows.encode()).id)
    assert ended(client, job.id).status == "succeeded"
    assert learning.http.get("/tasks/comma").json()["labels"] == ["yes, please", "no"]


def test_what_is_cancelled_and_forgotten_while_it_prepares_stops_no_other(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next job runs, even where the first is not remembered any more when the worker looks."""
    monkeypatch.setattr("server.jobs.records.MAX_JOBS", 2)
    rows = "".join(json.dumps({"text": f"words {n}", "target": f"free text {n}"}) + "\n" for n in range(50_000))
    with running_site(base_folder, "memory://", jobs=str(tmp_path / "jobs")) as site, client_of(site.url) as client:
        long = create(client, "long", file=upload(client, rows.encode()).id)
        until(lambda: status(client, long.id) == "running", "it prepares")
        client.fine_tuning.jobs.cancel(long.id)
        jobs = [create(client, f"next-{n}").id for n in range(2)]
        with pytest.raises(openai.NotFoundError):
            client.fine_tuning.jobs.retrieve(long.id)
        assert [ended(client, job).status for job in jobs] == ["succeeded"] * 2


def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(learning: Site, client: openai.OpenAI) -> None:
    """At once, twice as well as once; what is over cannot be; the next one runs."""
    runs, waits = create(client, "runs", method(told=LONG)), create(client, "waits")
    running(client, runs.id)
    assert client.fine_tuning.jobs.cancel(waits.id).status == "cancelled"
    assert client.fine_tuning.jobs.cancel(runs.id).status == "cancelled"
    assert client.fine_tuning.jobs.cancel(runs.id).status == "cancelled"
    done = ended(client, create(client, "after").id)
    assert done.status == "succeeded"
    with pytest.raises(openai.ConflictError, match="cannot be cancelled"):
        client.fine_tuning.jobs.cancel(done.id)
    assert status(client, waits.id) == "cancelled"
    assert learning.http.get("/tasks/runs").status_code == learning.http.get("/tasks/waits").status_code == 404


def test_what_may_be_served_already_cannot_be_cancelled_after_a_restart(base_folder: Path, tmp_path: Path) -> None:
    """A server was killed between publishing and saying so: whatever is begun again, it ends as a success."""
    with running_site(base_folder, "memory://", jobs=str(tmp_path)) as site, client_of(site.url) as client:
        job = create(client, "killed", method(told=LONG))
        running(client, job.id)
    folder = tmp_path / "jobs" / job.id
    killed(folder, publishing=True)
    with running_site(base_folder, "memory://", jobs=str(tmp_path)) as site, client_of(site.url) as client:
        for _ in range(2):
            with pytest.raises(openai.ConflictError):
                client.fine_tuning.jobs.cancel(job.id)
            until(lambda: status(client, job.id) == "running", "it goes on")
    killed(folder, method=method(told=QUICK), attempts=3)
    (folder / "checkpoint.safetensors").unlink()
    with running_site(base_folder, "memory://", jobs=str(tmp_path)) as site, client_of(site.url) as client:
        assert ended(client, job.id).status == "succeeded"
        said = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
        assert (said.count("the job runs"), said.count("the job goes on")) == (1, 2)
        assert site.http.get("/tasks/killed").status_code == 200


def killed(folder: Path, **changed: Any) -> None:
    """The record of a job that was left in good order, as a kill would have left it."""
    told = json.loads((folder / "job.json").read_text())
    assert told["status"] == "queued"
    (folder / "job.json").write_text(json.dumps({**told, "status": "running", **changed}))


def test_a_request_that_is_sent_again_makes_no_second_job(client: openai.OpenAI) -> None:
    """Under the same Idempotency-Key; another request under that key is refused."""
    once = {"Idempotency-Key": "once-job"}
    file = upload(client)
    assert client.files.create(file=("a.jsonl", ROWS), purpose="fine-tune", extra_headers=once).id == (
        client.files.create(file=("a.jsonl", ROWS), purpose="fine-tune", extra_headers=once).id
    )
    jobs = [create(client, "once", file=file.id, extra_headers=once) for _ in range(2)]
    assert jobs[0].id == jobs[1].id
    with pytest.raises(openai.UnprocessableEntityError, match="another request"):
        create(client, "other", file=file.id, extra_headers=once)
    ended(client, jobs[0].id)


def test_a_server_without_a_folder_for_jobs_says_so(site: Site) -> None:
    """And serves as ever."""
    answer = site.http.get("/v1/fine_tuning/jobs")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "jobs_unavailable"
    assert "without a folder" in answer.json()["error"]["message"]
    assert site.http.get("/readyz").status_code == 200


def test_a_file_is_read_listed_and_deleted(client: openai.OpenAI, learning: Site) -> None:
    """As OpenAI's client knows files; one that a job needs stays until the job is over."""
    file = upload(client, name="../../own name.jsonl")
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        len(ROWS), "../../own name.jsonl", "fine-tune", "processed",
    )  # fmt: skip
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == ROWS
    assert file.id in [one.id for one in client.files.list(purpose="fine-tune", limit=1)]
    job = create(client, "needs", method(told=LONG), file=file.id)
    with pytest.raises(openai.ConflictError, match="learns from this file"):
        client.files.delete(file.id)
    client.fine_tuning.jobs.cancel(job.id)
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    until(learning.idle, "nothing runs")


def test_csv_rows_are_read_where_the_name_says_so(client: openai.OpenAI) -> None:
    """Columns by name."""
    text = io.StringIO()
    lines = csv.DictWriter(text, ["text", "label"])
    lines.writeheader()
    lines.writerows({"text": f"words {n}", "label": "ab"[n % 2]} for n in range(20))
    file = upload(client, text.getvalue().encode(), "rows.CSV")
    assert ended(client, create(client, "csv", method(target="label"), file.id).id).status == "succeeded"


def test_a_job_says_what_is_odd_about_its_rows(client: openai.OpenAI) -> None:
    """Each with the same target is learnt as free text, and told."""
    rows = "".join(json.dumps({"text": f"row {number}", "target": "same"}) + "\n" for number in range(20)).encode()
    job = create(client, "odd", file=upload(client, rows).id)
    assert ended(client, job.id).status == "succeeded"
    events = client.fine_tuning.jobs.list_events(job.id).data
    assert [event.message for event in events if event.level == "warn"] == [
        "every row has the same target: it is learnt as free text"
    ]
