"""The longest requests all at once, and thousands of tasks that nobody has asked yet: rows L3 and L12."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.parts.store import fill
from prompt_store.local import LocalObjects
from tests.e2e.process import serving
from tests.server.site import Site
from tests.server.site import site as running

BUDGET = 26 * 2**20
"""Bytes for keys and values: three sequences of the embedded base at their longest."""
REQUESTS, NEW = 5, 16
LOOK_SECONDS = 0.1
"""Between two looks, which keep the engine from running."""
SLACK = 96 * 2**20
"""Bytes that passes, bodies and threads may take besides."""
TASKS, SHOWN = 2000, 100
READS = 20
"""Of the store, at a start, whatever it holds."""
RESIDENT = 64 * 2**10
"""Bytes for soft prompts: a few of those that are asked."""
ASKED = 80


def peak(pid: int) -> int:
    """Bytes that a process has held at most since `forget`."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def forget(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def test_l3_the_longest_requests_take_the_memory_they_were_promised() -> None:
    """As many run as the K/V budget holds, the others wait, all are answered; memory grows by what /info says."""
    bounds = {"SOFTPROMPT_KV_BUDGET": str(BUDGET), "SOFTPROMPT_TEXT_BUDGET": "0"}
    with serving("--store", "memory://", **bounds) as (process, http), ThreadPoolExecutor(REQUESTS) as pool:
        info = http.get("/info").json()
        length = info["max_total_tokens"] - NEW
        prompts = [[5 + (number * 31 + at) % 6000 for at in range(length)] for number in range(REQUESTS)]
        http.post("/generate", json={"inputs": "warm", "parameters": {"max_new_tokens": 4}}).raise_for_status()
        forget(process.pid)
        before = peak(process.pid)

        def ask(prompt: list[int]) -> httpx.Response:
            body = {"model": "base", "prompt": prompt, "max_tokens": NEW, "temperature": 0, "ignore_eos": True}
            return httpx.post(f"{process.url}/v1/completions", json=body, timeout=240, trust_env=False)

        asked = [pool.submit(ask, prompt) for prompt in prompts]
        most = 0
        while wait(asked, LOOK_SECONDS).not_done:
            most = max(most, http.get("/info").json()["engine"]["running"])
        answers = [each.result() for each in asked]
        grown = peak(process.pid) - before
    assert [answer.status_code for answer in answers] == [200] * REQUESTS
    assert {answer.json()["usage"]["completion_tokens"] for answer in answers} == {NEW}
    assert info["engine"]["kv_bytes"] <= info["limits"]["kv_budget"] == BUDGET
    assert 1 < most < REQUESTS
    assert grown < info["engine"]["kv_bytes"] + SLACK


def test_l12_thousands_of_cold_tasks_cost_a_start_nothing_and_a_page_its_own(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start reads a handful of objects, a page those it shows; walking shows every task once."""
    fill(tmp_path, TASKS)
    read: list[str] = []
    get = LocalObjects.get

    def noted(self: LocalObjects, key: str) -> bytes:
        read.append(key)
        return get(self, key)

    monkeypatch.setattr(LocalObjects, "get", noted)
    with running(base_folder, str(tmp_path)) as site:
        assert len(read) < READS
        read.clear()
        page = site.http.get("/tasks", params={"limit": SHOWN}).json()
        assert len(read) <= SHOWN + READS
        names = [task["id"] for task in page["data"]]
        while page["has_more"]:
            page = site.http.get("/tasks", params={"limit": 1000, "after": page["last_id"]}).json()
            names += [task["id"] for task in page["data"]]
    assert len(names) == len(set(names)) == TASKS


def _stream(site: Site, task: str, heard: list[str], began: threading.Event) -> None:
    body: dict[str, Any] = {"task": task, "inputs": "x", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}
    with (
        httpx.Client(base_url=site.url, timeout=120, trust_env=False) as own,
        own.stream("POST", "/generate_stream", json=body) as answer,
    ):
        for line in answer.iter_lines():
            began.set()
            if line:
                heard.append(line.removeprefix("data: "))


def test_l12_what_runs_keeps_its_soft_prompt_however_many_others_come(base_folder: Path, tmp_path: Path) -> None:
    """Soft prompts never take more than their budget, old ones leave, and a stream ends as it does alone."""
    fill(tmp_path, TASKS)
    with running(base_folder, str(tmp_path), prompt_budget=RESIDENT) as site:
        names = [task["id"] for task in site.http.get("/tasks", params={"limit": ASKED + 1}).json()["data"]]
        alone = site.generate("x", names[0], max_new_tokens=200, ignore_eos=True)["generated_text"]
        heard: list[str] = []
        began = threading.Event()
        stream = threading.Thread(target=_stream, args=(site, names[0], heard, began))
        stream.start()
        assert began.wait(60)
        for name in names[1:]:
            site.generate("y", name, max_new_tokens=1)
            now = site.snapshot()
            assert now.resident_bytes <= RESIDENT
            assert now.resident_prompts < ASKED / 2
        stream.join()
        assert json.loads(heard[-1])["generated_text"] == alone
