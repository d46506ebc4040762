"""Bars on standard error: how much of a run is done. Drawn on a terminal alone; knows nothing of what runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prompt_store.many import Steps


@contextmanager
def progress(total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A function that is told of each part that is done, from any thread. `total` None: nobody knows."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as drawn:
        bar = drawn.add_task("", total=total, completed=done)
        yield lambda count: drawn.advance(bar, count)


@contextmanager
def steps() -> Iterator[Steps]:
    """A bar for each step of a run, named; one whose end nobody knows only counts."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as drawn:

        def begin(what: str, total: int | None) -> Callable[[int], None]:
            bar = drawn.add_task(what, total=total)
            return lambda count: drawn.advance(bar, count)

        yield begin
