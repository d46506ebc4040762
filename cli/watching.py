"""What a tuning run looks like while it goes on: a bar for people, lines of JSON for machines. Knows events only."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Protocol, Self

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from tuning.hard import Round
from tuning.metrics import rank
from tuning.plan import Diverged, Evaluated, Event, Step, Unsaved


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON, which has no NaN and no infinity: null."""
    return json.dumps(_numbers(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Watcher(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, event: Event | Round) -> None:
        """One event of a run, as it happens."""


class JsonLines:
    """One object a line on standard output: `{"event": "step" | "evaluated" | "diverged" | "round" | "unsaved", ...}`.

    `unheard` is called when nobody reads them any more.
    """

    def __init__(self, unheard: Callable[[], None]) -> None:
        self._unheard = unheard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, event: Event | Round) -> None:
        try:
            typer.echo(dumps({"event": type(event).__name__.lower(), **asdict(event)}))
        except BrokenPipeError:
            self._unheard()


class Bar:
    """One line that moves: step, loss, best figures, examples a second, time left; a line for each evaluation."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[loss]}  {task.fields[figures]}"),
            TextColumn("{task.fields[speed]}"),
            console=console,
        )
        self._bar = self._progress.add_task("", total=1, loss="", figures="", speed="", visible=False)
        self._method = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, event: Event | Round) -> None:
        self._begin(event.run.partition("-")[0])
        if isinstance(event, Step | Round):
            self._progress.update(self._bar, visible=True)
        if isinstance(event, Evaluated):
            self._evaluated(event)
        elif isinstance(event, Diverged):
            self._progress.print(f"{_named(event.run)}step {event.step}: the loss is not finite any more")
        elif isinstance(event, Unsaved):
            self._progress.print(f"a checkpoint cannot be written ({event.reason}); the run goes on")
        elif isinstance(event, Round):
            self._progress.update(self._bar, completed=event.scored, total=event.budget, speed="rows read")
            if event.accepted:
                self._progress.print(f"{_named(event.run)}{figures(event.figures)}  {event.instruction!r}")
        else:
            speed = f"{event.examples_per_second:.0f} examples/s  {_clock(event.seconds_left)} left"
            loss = f"loss {event.loss:.3f}"
            self._progress.update(self._bar, completed=event.step, total=event.steps, loss=loss, speed=speed)

    def _begin(self, method: str) -> None:
        """What the bar says of one method is not another's."""
        if method != self._method:
            self._method = method
            self._progress.update(self._bar, completed=0, loss="", figures="", speed="")

    def _evaluated(self, event: Evaluated) -> None:
        kept = "  kept" if event.best else ""
        self._progress.print(f"{_named(event.run)}step {event.step}: {figures(event.figures)}{kept}")
        if event.best:
            self._progress.update(self._bar, figures=f"best {figures(event.figures)}")


def watch(events: Iterable[Event | Round], as_json: bool, unheard: Callable[[], None] = lambda: None) -> None:
    """Run to the end, showing it. `unheard`: what to do when nobody reads the lines any more."""
    with JsonLines(unheard) if as_json else Bar(Console(stderr=True)) as watcher:
        for event in events:
            watcher.show(event)


def compared(rows: Sequence[Mapping[str, Any]], metric: str, as_json: bool) -> None:
    """What several methods or lengths came to: a table on standard error, or an event a row."""
    if len(rows) < 2:
        return
    if as_json:
        for row in rows:
            typer.echo(dumps({"event": "compared", **row}))
        return
    table = Table(title=f"Held-out {metric}", box=box.SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    for heading in ("length", "seeds", metric, "loss", "learnt", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: (-rank(metric, row[metric]), row["loss"])):
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2g}"
        table.add_row(
            row["method"], f"{row['length'] or '–'}", f"{row['seeds']}", f"{row[metric]:.4g}{spread}",
            f"{row['loss']:.3g}", f"{row['learnt']:,}", f"{row['seconds']:.1f}",
        )  # fmt: skip
    Console(stderr=True).print(table)


def figures(named: dict[str, float]) -> str:
    """In one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in named.items())


def _named(run: str) -> str:
    return f"{run}, " if run else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
