"""How far a soak has come, on disk after every rest, so that a killed one goes on as if it had not been.

What was asked since the last rest is asked again: requests are numbered, and changes name their operation.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.slopes import Point


@dataclass(frozen=True)
class Plan:
    """`every`: requests between two rests."""

    requests: int
    every: int
    clients: int
    seed: int


@dataclass
class State:
    """`starts`: of each server the requests done before and its commit. `seconds`: of requests, without starts."""

    plan: Plan
    done: int = 0
    seconds: float = 0.0
    starts: list[tuple[int, str]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.done >= self.plan.requests

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        fresh = file.with_suffix(".fresh")
        told = {**vars(self), "plan": vars(self.plan), "points": [asdict(point) for point in self.points]}
        fresh.write_text(json.dumps(told), encoding="utf-8")
        fresh.replace(file)


def load(file: Path) -> State:
    """Raises OSError without a file."""
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return State(
        plan=Plan(**told["plan"]),
        done=told["done"],
        seconds=told["seconds"],
        starts=[(done, commit) for done, commit in told["starts"]],
        outcomes=Counter(told["outcomes"]),
        wrong=told["wrong"],
        points=[Point(**point) for point in told["points"]],
    )
