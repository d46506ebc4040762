"""What two load generators are asked for, and whether what they report is what the server has counted.

Knows numbers of requests and tokens; no tool, no HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from clients.server import Count

TASKS = ("quince", "medlar", "rowan", "sloe")
REQUESTS = 520
CONCURRENT = 32
PROMPT_IDS = 24
NEW_IDS = 16


@dataclass(frozen=True, slots=True)
class Told:
    """By a tool: requests that were answered and that were not, ids of prompts as it counts them, ids of answers."""

    answered: int
    failed: int
    prompt: int
    generated: int

    def figures(self) -> dict[str, int]:
        """As they are recorded."""
        return {
            "tasks": len(TASKS),
            "concurrent": CONCURRENT,
            "requests answered": self.answered,
            "requests failed": self.failed,
            "ids of prompts": self.prompt,
            "ids of answers": self.generated,
        }


def total(counts: Mapping[str, Count]) -> Count:
    """Of all tasks."""
    return Count(
        sum(count.requests for count in counts.values()),
        sum(count.prompt for count in counts.values()),
        sum(count.generated for count in counts.values()),
    )


def disagreements(told: Told, counts: Mapping[str, Count]) -> list[str]:
    """Faults. Wanted are no failures, all requests answered, no task that nobody asked, and equal counts."""
    heard, faults = total(counts), []
    if told.failed:
        faults.append(f"{told.failed} requests have failed")
    if told.answered < REQUESTS:
        faults.append(f"{told.answered} requests were answered, not {REQUESTS}")
    silent = [task for task in TASKS if counts.get(task, Count()).requests == 0]
    if silent:
        faults.append(f"nobody asked {', '.join(silent)}")
    for what, said, counted in (
        ("requests", told.answered, heard.requests),
        ("ids of prompts", told.prompt, heard.prompt),
        ("ids of answers", told.generated, heard.generated),
    ):
        if said != counted:
            faults.append(f"{what}: the tool says {said}, the server {counted}")
    return faults
