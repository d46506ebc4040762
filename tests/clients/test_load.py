"""What a load generator reports, held against what the server counts."""

from dataclasses import replace
from typing import Any

import pytest

from clients.aiperf.run import told as aiperf_told
from clients.load import REQUESTS, TASKS, Told, disagreements
from clients.server import Count, counted
from clients.vllm.run import chunks
from clients.vllm.run import told as vllm_told
from tests.server.site import Site

EACH = REQUESTS // len(TASKS)
COUNTS = {task: Count(EACH, 24 * EACH, 16 * EACH) for task in TASKS}
SAID = Told(REQUESTS, 0, 24 * REQUESTS, 16 * REQUESTS)


def test_equal_counts_are_no_fault() -> None:
    """Requests, ids of prompts and of answers, over all tasks."""
    assert disagreements(SAID, COUNTS) == []


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"failed": 1}, "1 requests have failed"),
        ({"prompt": 12479}, "ids of prompts: the tool says 12479, the server 12480"),
        ({"generated": 0}, "ids of answers: the tool says 0, the server 8320"),
    ],
)  # fmt: skip
def test_a_wrong_count_is_a_fault(wrong: dict[str, int], fault: str) -> None:
    """Even by one."""
    assert disagreements(replace(SAID, **wrong), COUNTS) == [fault]


def test_too_few_requests_and_a_task_that_nobody_asked_are_faults() -> None:
    """A run that asked for less shows less."""
    few = {task: Count(10, 240, 160) for task in TASKS[1:]}
    faults = disagreements(Told(30, 0, 720, 480), few)
    assert faults == [f"30 requests were answered, not {REQUESTS}", f"nobody asked {TASKS[0]}"]


def test_the_reports_are_read_as_the_tools_write_them() -> None:
    """aiperf leaves out what there was none of; vLLM's client has a pause fewer than chunks."""
    summary = {name: {"avg": value} for name, value in (("request_count", 520.0), ("total_usage_prompt_tokens", 9.0))}
    assert aiperf_told(summary) == Told(520, 0, 9, 0)
    assert aiperf_told({**summary, "error_request_count": {"avg": 2.0}}).failed == 2
    result: dict[str, Any] = {
        "completed": 2, "failed": 1, "total_input_tokens": 5, "total_output_tokens": 4,
        "itls": [[0.1, 0.1], [], []], "errors": ["", "", "Bad Request"],
    }  # fmt: skip
    assert vllm_told(result) == Told(2, 1, 5, 4)
    assert chunks(result) == 4


def test_the_server_counts_what_it_was_asked(site: Site) -> None:
    """By task, over all requests of it."""
    site.publish("counted", "Say: {input}")
    site.generate("play some jazz", task="counted", max_new_tokens=3, ignore_eos=True)
    usage = site.generate("play some jazz", task="counted", max_new_tokens=5, ignore_eos=True)["usage"]
    assert counted(site.url)["counted"] == Count(2, 2 * usage["prompt_tokens"], 3 + 5)
