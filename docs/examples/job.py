"""A running server learns a task from rows, and answers with it: `python docs/examples/job.py rows.csv "a text"`.

OpenAI's own client (`pip install openai`, which brings httpx). SOFTPROMPT_URL names another server than the one of
`make serve`.
"""

import os
import sys
import time
from pathlib import Path

import httpx
from openai import APIStatusError, OpenAI

URL = os.environ.get("SOFTPROMPT_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("SOFTPROMPT_ADMIN_KEY", "a server without keys takes any")
TOLD = {"length": 10, "steps": 100, "batch_size": 8, "evaluate_every": 25}
METHOD = {
    "type": "prefix_tuning",
    "prefix_tuning": {"template": "{text}\nAct:", "target": "act", "hyperparameters": TOLD},
}


def learn(rows: Path, task: str) -> None:
    """Until the task is served. Raises SystemExit with the reason of a job that failed."""
    client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
    file = client.files.create(file=rows, purpose="fine-tune")
    try:
        job = client.fine_tuning.jobs.create(model="base", suffix=task, training_file=file.id, method=METHOD, seed=0)  # type: ignore[arg-type]  # ours
    except APIStatusError as error:  # this server learns nothing, say, or has no such base
        raise SystemExit(str(error)) from None
    told: set[str] = set()
    while job.status not in {"succeeded", "failed", "cancelled"}:
        time.sleep(0.5)
        for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=20).data):
            if event.id not in told:
                told.add(event.id)
                sys.stdout.write(f"{event.message}\n")
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.error is not None and job.status == "failed":
        raise SystemExit(f"{job.error.code}: {job.error.message}")


def ask(task: str, text: str) -> str:
    """The likeliest label."""
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{URL}/classify", json={"task": task, "inputs": {"text": text}}, headers=headers)
    answer.raise_for_status()
    return str(answer.json()["label"])


if __name__ == "__main__":
    learn(Path(sys.argv[1]), "act")
    sys.stdout.write(f"{sys.argv[2]}: {ask('act', sys.argv[2])}\n")
