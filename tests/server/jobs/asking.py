"""What tests say to a server that learns, by OpenAI's client."""

import json
from collections.abc import Mapping
from typing import Any

import openai
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob

from tests.server.site import until
from tests.tuning.conftest import examples

TEMPLATE = "{text}\nAnswer:"
ROWS = "".join(json.dumps({**one.inputs, "target": one.target}) + "\n" for one in examples(30)).encode()
QUICK = {"steps": 4, "batch_size": 4, "evaluate_every": 2, "warmup": 1, "length": 3}
LONG = {"steps": 90_000, "batch_size": 4, "evaluate_every": 100, "warmup": 1, "length": 3}
"""Longer than any test."""


def upload(client: openai.OpenAI, rows: bytes = ROWS, name: str = "rows.jsonl") -> FileObject:
    return client.files.create(file=(name, rows), purpose="fine-tune")


def method(kind: str = "prompt_tuning", told: Mapping[str, Any] = QUICK, **data: Any) -> Any:
    """The body's `method`."""
    return {"type": kind, kind: {"template": TEMPLATE, **data, "hyperparameters": dict(told)}}


def create(client: openai.OpenAI, task: str, wanted: Any = None, file: str | None = None, **more: Any) -> FineTuningJob:
    """A job, of rows that are uploaded for it where no file is named."""
    return client.fine_tuning.jobs.create(
        model="base", suffix=task, training_file=file or upload(client).id, method=wanted or method(), **more
    )


def ended(client: openai.OpenAI, job: str) -> FineTuningJob:
    """Once it is over."""
    until(lambda: status(client, job) in {"succeeded", "failed", "cancelled"}, "the job ends", 120)
    return client.fine_tuning.jobs.retrieve(job)


def running(client: openai.OpenAI, job: str) -> None:
    """Until it learns."""
    until(
        lambda: any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job)),
        "it learns",
        120,
    )


def status(client: openai.OpenAI, job: str) -> str:
    return client.fine_tuning.jobs.retrieve(job).status
