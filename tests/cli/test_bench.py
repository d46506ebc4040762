"""`softprompt bench` as a process: what it asks of a server, and what it says of it."""

import asyncio
import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from cli.load import Load, Sample, load
from softprompt_client import AsyncClient
from tests.cli.conftest import Softprompt
from tests.server.site import Site

TASKS = ("b-one", "b-two")


@pytest.fixture
def tasks(site: Site) -> tuple[str, ...]:
    site.publish(TASKS[0], "Say {input}:")
    site.publish(TASKS[1], "{first} and {second}", soft=2)
    return TASKS


def figures(softprompt: Softprompt, *arguments: str | Path) -> Any:
    done = softprompt("bench", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_load_of_several_tasks_is_measured(softprompt: Softprompt, site: Site, tasks: tuple[str, ...]) -> None:
    """So many requests of exactly so many tokens, those of the warm-up beside; nothing else is asked."""
    before = site.snapshot().counters
    chosen = [part for task in tasks for part in ("--task", task)]
    found = figures(
        softprompt, *chosen, "--requests", "30", "--concurrency", "4", "--max-new-tokens", "5", "--ignore-eos"
    )
    assert (found["requests"], found["errors"], found["tokens"]) == (30, {}, 150)
    assert found["tasks"] == list(tasks)
    after = site.snapshot().counters
    assert after.finished - before.finished == 32
    for name in ("first_token_ms", "token_ms", "request_ms"):
        spread = found[name]
        assert 0 < spread["p50"] <= spread["p90"] <= spread["p99"] <= spread["max"]
    assert found["first_token_ms"]["mean"] < found["request_ms"]["mean"]
    assert found["tokens_per_second"] == pytest.approx(150 / found["seconds"])


def test_the_table_is_for_people(softprompt: Softprompt, tasks: tuple[str, ...]) -> None:
    """Within 80 columns."""
    done = softprompt("bench", "--task", tasks[0], "--requests", "3", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "to the first token" in done.stdout
    assert "tokens/s" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_load_may_last_so_long(softprompt: Softprompt, tasks: tuple[str, ...]) -> None:
    """However many requests that is."""
    found = figures(softprompt, "--task", tasks[0], "--duration", "1", "--concurrency", "2")
    assert found["seconds"] >= 1
    assert found["requests"] >= 2


def test_the_requests_may_be_a_files(softprompt: Softprompt, tasks: tuple[str, ...], tmp_path: Path) -> None:
    """Over and over; a line's own parameters win."""
    line = {"inputs": "x", "parameters": {"max_new_tokens": 2, "ignore_eos": True}}
    (tmp_path / "in").write_text(json.dumps(line) + "\n")
    assert figures(softprompt, "--file", "in", "--task", tasks[0], "--requests", "4")["tokens"] == 8
    assert "line 1: a line without a task" in softprompt("bench", "--file", "in").stderr


def test_what_cannot_be_asked_is_told_before_it_is_measured(softprompt: Softprompt) -> None:
    """A task that is not there, a server that is not there."""
    assert "404 task_not_found" in softprompt("bench", "--task", "b-absent").stderr
    assert "did not answer" in softprompt("bench", "--url", "http://127.0.0.1:1").stderr


def test_errors_are_counted_by_their_code(site: Site, tasks: tuple[str, ...]) -> None:
    """And no time is taken of them."""

    async def run(requests: Iterator[dict[str, Any]]) -> Load:
        async with AsyncClient(site.url, retries=0) as client:
            return await load(client, requests, 2, None, lambda _: None)

    good = {"task": tasks[0], "inputs": "x", "parameters": {"max_new_tokens": 2, "ignore_eos": True}}
    found = asyncio.run(run(iter([good, {**good, "task": "b-absent"}, good]))).figures()
    assert (found["requests"], found["errors"], found["tokens"]) == (3, {"task_not_found": 1}, 4)


def test_figures_are_those_of_the_samples() -> None:
    """Percentiles between the nearest samples; none of nothing; one alone is all of them."""
    samples = [Sample(n / 100, n / 100 + 0.9, 10) for n in range(1, 102)]
    found = Load(samples, 2.0).figures()
    assert found["first_token_ms"]["p50"] == pytest.approx(510)
    assert found["first_token_ms"]["p99"] == pytest.approx(1000)
    assert found["token_ms"]["mean"] == pytest.approx(100)
    assert found["tokens_per_second"] == 505
    assert Load([*repeat(Sample(0, 0, 0, "timeout"), 2)], 1.0).figures()["first_token_ms"] is None
    assert Load([Sample(0.1, 0.2, 1)], 1.0).figures()["request_ms"]["p99"] == pytest.approx(200)
