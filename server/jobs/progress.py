"""What the tuner tells, as the history of a job: figures, how long it will take, the best so far; and the results file.

Knows events and records; nothing that learns.
"""

import csv
import io
import math
import time
from collections.abc import Mapping
from typing import Any

from server.jobs.records import Records
from tuning.compare import Result
from tuning.hard import Round
from tuning.learn import Settings
from tuning.plan import Evaluated, Event, Step, Unsaved


class Progress:
    """Of one job."""

    def __init__(self, records: Records, job: str, settings: Settings) -> None:
        self._records, self._job, self._settings = records, job, settings

    def hear(self, event: Event | Round) -> None:
        if isinstance(event, Step):
            self._records.estimate(self._job, time.time() + event.seconds_left)
        elif isinstance(event, Evaluated):
            self._evaluated(event)
        elif isinstance(event, Round):
            text = f"{event.scored} of {event.budget} rows scored: {self._said(event.figures)}"
            figures = {"step": event.scored, **_valid(event.figures)}
            self._records.tell(self._job, text, **figures)
            if event.accepted:
                self._records.change(self._job, best={**figures, "created": time.time()})
        elif isinstance(event, Unsaved):
            self._records.tell(self._job, f"its checkpoint cannot be written: {event.reason}", "warn")

    def _evaluated(self, event: Evaluated) -> None:
        figures = {"step": event.step, "train_loss": _number(event.train_loss), **_valid(event.figures)}
        kept = ", the best so far" if event.best else ""
        self._records.tell(self._job, f"step {event.step}: {self._said(event.figures)}{kept}", **figures)
        if event.best:
            self._records.change(self._job, best={**figures, "created": time.time()})

    def _said(self, figures: Mapping[str, float]) -> str:
        """The task's metric; a round of free text has a loss and no other figure."""
        metric = self._settings.metric
        name = metric if metric in figures else "loss"
        return f"{name} {figures[name]:.4g}"


def curve(result: Result) -> bytes:
    """CSV: a line for each evaluation."""
    names = list(result.figures)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["step", "train_loss", *(f"valid_{name}" for name in names)])
    for one in result.curve:
        lines.writerow([one["step"], one.get("train_loss", ""), *(one["figures"].get(name, "") for name in names)])
    return text.getvalue().encode()


def _valid(figures: Mapping[str, float]) -> dict[str, Any]:
    return {f"valid_{name}": _number(value) for name, value in figures.items()}


def _number(value: float | None) -> float | None:
    """JSON has no other."""
    return value if value is not None and math.isfinite(value) else None
