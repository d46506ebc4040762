"""The examples as the pages print them, against a server on the embedded base."""

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import numpy as np

from tests.checkout import ROOT, text
from tests.e2e.process import serving
from tests.server.jobs.conftest import client_of
from tests.server.site import peft_file

PIP = "pip install"
"""The tests have installed it already."""


def example(page: str, url: str) -> subprocess.CompletedProcess[str]:
    """The page's first block of commands, which must be one command."""
    block = text(Path(page)).partition("```sh\n")[2].partition("```")[0]
    (command,) = [line for line in block.splitlines() if PIP not in line]
    environment = {**os.environ, "SOFTPROMPT_URL": url}
    done = subprocess.run(
        ["sh", "-euc", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_example_asks_tasks_with_openais_client() -> None:
    """What is served, an answer, and a stream that says what the whole answer says."""
    with serving("--store", "memory://") as (process, _):
        models, intent, restaurant = example("docs/openai.md", process.url).stdout.splitlines()
        assert models.startswith("models: base, ")
        assert intent == "intent: music"
        asked = {"mr": "name[Aromi], eatType[coffee shop], food[Italian], area[riverside]"}
        body = {"task": "restaurant", "inputs": asked, "parameters": {"max_new_tokens": 40}}
        own = httpx.post(f"{process.url}/generate", json=body).json()
        assert restaurant == f"restaurant: {own['generated_text']}"


def test_the_example_asks_and_changes_tasks_with_our_own_client() -> None:
    """Waiting and at once: answers, a stream, labels, a task that comes and goes."""
    with serving("--store", "memory://") as (process, _):
        said = dict(line.split(": ", 1) for line in example("docs/client.md", process.url).stdout.splitlines())
        assert said["intent"] == "music, version 1"
        asked = {"mr": "name[Aromi], eatType[coffee shop], food[Italian], area[riverside]"}
        body = {"task": "restaurant", "inputs": asked, "parameters": {"max_new_tokens": 40}}
        assert said["restaurant"] == httpx.post(f"{process.url}/generate", json=body).json()["generated_text"]
        assert said["likeliest"].startswith("music (0.")
        assert said["history, newest first"] == "rollback, publish, publish"
        assert said["afterwards"] == "404 task_not_found, worth another try: False"
        assert said["at once"] == "music, weather, playlist"
        tasks = httpx.get(f"{process.url}/tasks?kind=embeddings").json()["data"]
        assert said["tasks with learnt embeddings"] == str(len(tasks))


def test_curl_needs_nothing_of_ours(tmp_path: Path) -> None:
    """Every route of our own, a prompt file to and fro, and a template in the query, braces and all."""
    with serving("--store", "memory://") as (process, client):
        hidden = json.loads(text(Path("server/default/base/config.json")))["hidden_size"]
        (tmp_path / "adapter_model.safetensors").write_bytes(peft_file(np.full((4, hidden), 0.01)))
        command = ["sh", "docs/examples/curl.sh", str(tmp_path / "adapter_model.safetensors")]
        environment = {**os.environ, "SOFTPROMPT_URL": process.url}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = dict(re.findall(r"^([a-z]+): (.*)$", done.stdout, re.MULTILINE))
        assert json.loads(said["generate"])["generated_text"] == "music"
        assert json.loads(said["several"])["responses"][0]["generated_text"] == "weather"
        assert json.loads(said["peft"])["template"] == "{text} Mood:"
        assert json.loads(said["publish"])["digest"] == json.loads(said["task"])["digest"]
        assert json.loads(said["rollback"])["version"] == 3
        left = [task["id"] for task in client.get("/tasks", params={"search": "curl-"}).json()["data"]]
        assert left == []


def test_the_example_teaches_a_running_server_a_task(tmp_path: Path) -> None:
    """It prints what happens, and the task answers as it should where it was judged."""
    with serving("--store", "memory://", SOFTPROMPT_JOBS=str(tmp_path / "jobs")) as (process, _):
        done = example("docs/jobs.md", process.url)
        assert done.stdout.endswith("what time does the shop close: question\n")
        assert "the job runs" in done.stdout
        assert "the task is served: version 1" in done.stdout
        (job,) = client_of(process.url).fine_tuning.jobs.list()
        figures = client_of(process.url).fine_tuning.jobs.checkpoints.list(job.id).data[0].metrics
        assert dict(figures)["valid_accuracy"] > 0.5


def test_what_peft_and_prompt_embeds_said_the_server_says() -> None:
    """Both ways of moving: the commands of docs/migrate.md end with answers that are the same."""
    commands = [
        line
        for block in text(Path("docs/migrate.md")).split("```sh\n")[1:]
        for line in block.partition("```")[0].splitlines()
        if "examples/" in line
    ]
    assert len(commands) == 2
    with serving("--store", "memory://") as (process, _):
        environment = {**os.environ, "SOFTPROMPT_URL": process.url}
        for command in commands:
            done = subprocess.run(
                ["sh", "-euc", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.endswith("\nthe same\n")


def test_a_prompt_file_is_written_by_hand() -> None:
    """With numpy and safetensors alone; the server keeps it byte for byte."""
    with serving("--store", "memory://") as (process, client):
        done = example("docs/format.md", process.url)
        assert done.stdout.endswith("the digest is ours\n")
        asked = client.post("/generate", json={"task": "written", "inputs": "once"}).json()
        assert asked["usage"]["soft_tokens"] == 4
