"""What no job is made of: forms, bodies and rows that are none. Nothing is queued, and nothing is repeated."""

import json
from typing import Any

import httpx
import openai
import pytest

from tests.server.jobs.asking import QUICK, ROWS, create, ended, method, upload
from tests.server.site import Site

SECRET = "Zq9secret"


def body(file: str, **changed: Any) -> dict[str, Any]:
    return {"model": "base", "suffix": "refused", "training_file": file, "method": method(), **changed}


def told(**changed: Any) -> Any:
    return method(told={**QUICK, **changed})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"model": "gpt-9"}, (404, "model_not_found", "model")),
        ({"suffix": "a/b"}, (400, "invalid_task_id", "suffix")),
        ({"suffix": "base"}, (400, "invalid_task_id", "suffix")),
        ({"suffix": None}, (400, "invalid_request", "suffix")),
        ({"training_file": "file-none"}, (404, "file_not_found", "training_file")),
        ({"training_file": "../jobs"}, (404, "file_not_found", "training_file")),
        ({"validation_file": "file-none"}, (404, "file_not_found", "validation_file")),
        ({"method": {"type": "supervised", "supervised": {}}}, (400, "unknown_field", "method")),
        ({"method": {"type": "prompt_tuning"}}, (400, "invalid_request", "method")),
        ({"method": {**method(), "hard": method("hard", {})["hard"]}}, (400, "invalid_request", "method")),
        ({"method": method(template="{text")}, (422, "bad_template", "method")),
        ({"method": method(template="{text} ")}, (422, "bad_template", "method")),
        ({"method": method(template="{other}")}, (422, "bad_training_data", "training_file")),
        ({"method": method(target="other")}, (422, "bad_training_data", "training_file")),
        ({"method": method(labels=["x", "y"])}, (422, "bad_training_data", "training_file")),
        (
            {"method": method(labels=["a table", "music", "weather", "a table for"])},
            (422, "bad_training_data", "training_file"),
        ),
        ({"method": method(labels=["x"])}, (400, "invalid_request", "method.prompt_tuning.labels")),
        ({"method": method(secret=1)}, (400, "unknown_field", "method.prompt_tuning")),
        ({"method": told(learning_rate=0)}, (400, "invalid_request", "hyperparameters.learning_rate")),
        ({"method": told(learning_rate=1e9)}, (400, "invalid_request", "hyperparameters.learning_rate")),
        ({"method": told(steps=0)}, (400, "invalid_request", "hyperparameters.steps")),
        ({"method": told(steps=10**9)}, (400, "invalid_request", "hyperparameters.steps")),
        ({"method": told(steps=90_000, evaluate_every=1)}, (400, "invalid_request", "hyperparameters")),
        ({"method": told(batch_size=10**6)}, (400, "invalid_request", "hyperparameters.batch_size")),
        ({"method": told(length=10**6)}, (400, "invalid_request", "hyperparameters.length")),
        ({"method": told(init="labels", encoder="mlp")}, (400, "unknown_field", "hyperparameters")),
        ({"method": told(metric="luck")}, (422, "bad_training_data", "method")),
        ({"method": told(objective="lm", metric="bleu")}, (422, "bad_training_data", "method")),
        ({"seed": -1}, (400, "invalid_request", "seed")),
        ({"metadata": {"a": 1}}, (400, "invalid_request", "metadata")),
        ({"integrations": [{"type": "wandb"}]}, (400, "unknown_field", "integrations")),
        ({"hyperparameters": {"n_epochs": 3}}, (400, "unknown_field", "hyperparameters")),
    ],
)
def test_a_body_that_asks_for_no_job_is_refused(
    learning: Site, client: openai.OpenAI, changed: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    """By name, before anything is queued."""
    before = len(client.fine_tuning.jobs.list(limit=1000).data)
    answer = learning.http.post("/v1/fine_tuning/jobs", json=body(upload(client).id, **changed))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == expected[:2], error
    assert error["param"] is not None
    assert error["param"].endswith(expected[2])
    assert len(client.fine_tuning.jobs.list(limit=1000).data) == before


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b"", "no rows"),
        (b"\n \n", "no rows"),
        (ROWS + b"[1]\n", "line 31: expected an object, got a list"),
        (ROWS + b"{\n", "line 31: not JSON"),
        (ROWS + json.dumps({SECRET: "a", "target": "x"}).encode(), "line 31: field 1 of the template is missing"),
        (
            ROWS + json.dumps({"text": 3, "target": SECRET}).encode(),
            "line 31: field 1 of the template: expected text, got a number",
        ),
        (ROWS + b'{"text": "\xff", "target": "x"}\n', "line 31: not UTF-8"),
        (
            ROWS + b'{"text": "\\ud800", "target": "x"}\n',
            "line 31: field 1 of the template holds half a surrogate pair",
        ),
        (ROWS + b'{"text": NaN, "target": "x"}\n', "line 31: field 1 of the template: expected text, got a number"),
        (ROWS + b'{"text": "a", "target": " "}\n', "line 31: the target is empty"),
        (ROWS.splitlines()[0], "at least two different inputs"),
        (b"PK\x03\x04" + bytes(range(256)), "not"),
        (b"{}\n" * 5000, "1000 rows or more cannot be read"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_named_by_number(client: openai.OpenAI, rows: bytes, said: str) -> None:
    """At once, and without a word of what they hold."""
    with pytest.raises(openai.UnprocessableEntityError, match=said) as raised:
        create(client, "refused", file=upload(client, rows).id)
    assert raised.value.code == "bad_training_data"
    assert SECRET not in raised.value.message


def test_a_held_out_row_that_is_too_long_is_named_by_its_line(client: openai.OpenAI) -> None:
    """Of free text too, whose answers are judged input by input."""
    rows = [{"text": f"words {n} " * (200 if n == 2 else 1), "target": f"free {n}"} for n in range(4)]
    held_out = upload(client, "".join(json.dumps(row) + "\n" for row in rows).encode())
    job = ended(client, create(client, "held", method(labels="none"), validation_file=held_out.id).id)
    assert job.error is not None
    assert job.error.code == "bad_training_data"
    assert "line 3:" in job.error.message


def test_lines_may_end_as_on_windows_and_begin_with_a_mark(client: openai.OpenAI) -> None:
    """What editors leave is no fault of the rows."""
    rows = b"\xef\xbb\xbf" + ROWS.replace(b"\n", b"\r\n")
    job = create(client, "windows", file=upload(client, rows).id)
    client.fine_tuning.jobs.cancel(job.id)


def form(*parts: bytes, boundary: bytes = b"x", end: bytes = b"--") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + end + b"\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}'
PURPOSE = b'Content-Disposition: form-data; name="purpose"\r\n\r\nfine-tune'
OTHER = b'Content-Disposition: form-data; name="Zq9secret"\r\n\r\nZq9secret'


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (form(FILE, PURPOSE), "multipart/form-data; boundary=x", 200),
        (form(FILE, PURPOSE), 'multipart/form-data; charset=utf-8; boundary="x"', 200),
        (form(FILE, PURPOSE), "multipart/form-data", 415),
        (form(FILE, PURPOSE), "application/json", 415),
        (form(FILE, PURPOSE), "multipart/mixed; boundary=x", 415),
        (form(FILE, PURPOSE), "multipart/form-data; boundary=y", 400),
        (form(FILE, PURPOSE)[:-8], "multipart/form-data; boundary=x", 400),
        (form(FILE), "multipart/form-data; boundary=x", 400),
        (form(PURPOSE), "multipart/form-data; boundary=x", 400),
        (form(FILE, FILE, PURPOSE), "multipart/form-data; boundary=x", 400),
        (form(FILE, PURPOSE, PURPOSE), "multipart/form-data; boundary=x", 400),
        (form(FILE, PURPOSE.replace(b"fine-tune", b"assistants")), "multipart/form-data; boundary=x", 400),
        (form(FILE, PURPOSE, OTHER), "multipart/form-data; boundary=x", 400),
        (form(FILE, PURPOSE, PURPOSE + b"x" * 2000), "multipart/form-data; boundary=x", 400),
        (form(FILE, PURPOSE, b"no header"), "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data; boundary=x", 400),
        (b"\xff" * 100, "multipart/form-data; boundary=x", 400),
    ],
)
def test_a_form_that_holds_no_file_is_refused(learning: Site, content: bytes, kind: str, status: int) -> None:
    """With the exact status, and no part of it in the answer."""
    answer = httpx.post(f"{learning.url}/v1/files", content=content, headers={"Content-Type": kind}, trust_env=False)
    assert answer.status_code == status, answer.text
    assert SECRET not in answer.text


def test_what_is_no_id_is_not_found(learning: Site) -> None:
    """Garbage in a path is nobody's job and nobody's file."""
    for name in ("none", "..", "%2e%2e%2fjobs", "ftjob-" + "0" * 24, "a" * 500, "%00"):
        for path in (f"/v1/files/{name}", f"/v1/fine_tuning/jobs/{name}", f"/v1/fine_tuning/jobs/{name}/events"):
            assert learning.http.get(path).status_code == 404, path


def test_what_nobody_defines_is_passed_over_and_null_is_absent(learning: Site, client: openai.OpenAI) -> None:
    """As OpenAI's clients of every age write bodies."""
    sent = body(upload(client).id, seed=None, integrations=None, hyperparameters=None, future_field={"a": 1})
    answer = learning.http.post("/v1/fine_tuning/jobs", json=sent)
    assert answer.status_code == 200, answer.text
    client.fine_tuning.jobs.cancel(answer.json()["id"])


@pytest.mark.parametrize("query", ["limit=0", "limit=9999", "metadata=1", "secret=1", "after=ftjob-none"])
def test_a_query_that_asks_for_no_page_is_refused(learning: Site, query: str) -> None:
    """Unknown words and an id that is not of the list."""
    answer = learning.http.get(f"/v1/fine_tuning/jobs?{query}")
    assert answer.status_code == 400
    assert "secret" not in answer.text
