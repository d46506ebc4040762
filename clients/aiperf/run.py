"""NVIDIA's aiperf: four tasks as four models of one run, streamed. Knows its command line and its summary."""

import json
from pathlib import Path
from typing import Any

from clients.environment import called
from clients.load import CONCURRENT, NEW_IDS, PROMPT_IDS, REQUESTS, TASKS, Told, disagreements
from clients.server import BASE, counted, serving
from clients.tool import Found

PACKAGES: tuple[str, ...] = ("aiperf",)
FIRST: tuple[str, ...] = ()
SUMMARY = "profile_export_aiperf.json"


def run(python: Path, work: Path) -> Found:
    with serving(work, TASKS) as url:
        command: list[str | Path] = [
            python.parent / "aiperf", "profile", "--model", ",".join(TASKS), "--url", url,
            "--endpoint-type", "completions", "--streaming", "--use-server-token-count", "--tokenizer", BASE,
            "--isl", str(PROMPT_IDS), "--osl", str(NEW_IDS), "--extra-inputs", "ignore_eos:true",
            "--concurrency", str(CONCURRENT), "--request-count", str(REQUESTS), "--random-seed", "1",
            "--artifact-dir", work / "out", "--ui", "none",
        ]  # fmt: skip
        log = work / "aiperf.log"
        # Any value of HF_HUB_OFFLINE makes it look for a folder's path in the hub's cache.
        if called(command, log, HF_HUB_OFFLINE=None):
            raise RuntimeError(f"aiperf has failed: {log}")
        counts = counted(url)
    summary = json.loads((work / "out" / SUMMARY).read_text(encoding="utf-8"))
    said = told(summary)
    return Found(said.figures(), disagreements(said, counts))


def told(summary: dict[str, Any]) -> Told:
    """What the summary says; what it leaves out is none."""

    def number(name: str) -> int:
        return int(summary.get(name, {"avg": 0})["avg"])

    return Told(
        number("request_count"),
        number("error_request_count"),
        number("total_usage_prompt_tokens"),
        number("total_usage_completion_tokens"),
    )
