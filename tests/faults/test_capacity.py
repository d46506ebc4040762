"""Thousands of tasks that nobody has asked yet: row L12."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.parts.store import fill
from prompt_store.local import LocalObjects
from tests.server.site import Site
from tests.server.site import site as running

TASKS, SHOWN = 2000, 100
READS = 20
"""Of the store, at a start, whatever it holds."""
RESIDENT = 64 * 2**10
"""Bytes for soft prompts: a few of those that are asked."""
ASKED = 80


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
