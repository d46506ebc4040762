"""Tasks and versions as tables. Knows the fields of the contract; asks nobody."""

from datetime import UTC, datetime
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from softprompt_client.answers import Task, Version

COLUMNS = ("version", "kind", "length", "bytes", "verified", "servable")
HISTORY = ("version", "event", "created", "bytes", "source_version", "digest")
WIDE = 240
"""Columns of a table that no terminal shows."""
NARROW = 12
"""Columns of a description below which it is left out."""
DIGEST = 12
"""Characters of a digest that tell versions apart on a screen."""


def listed(found: list[Task]) -> None:
    """A row for each; only the description may be cut."""
    columns = [name for name in COLUMNS if not found or name in found[0]]
    rows = [[task["id"], *(str(cast("dict[str, Any]", task)[name]) for name in columns)] for task in found]
    table = Table()
    for name, *cells in zip(("task", *columns), *rows, strict=True):
        table.add_column(name, min_width=max(map(len, (name, *cells))))
    console = _console()
    room = console.width - sum(column.min_width or 0 for column in table.columns) - 3 * len(table.columns) - 4
    if room >= NARROW:
        table.add_column("description", no_wrap=True, overflow="ellipsis", max_width=room)
    for task, cells in zip(found, rows, strict=True):
        table.add_row(*cells, *([task["description"] or ""] if room >= NARROW else []))
    console.print(table)


def shown(task: Task, versions: list[Version]) -> None:
    """What a person wants to know of one task, then its versions, newest first."""
    fields = Table(show_header=False, box=None)
    for name, value in task.items():
        if name not in {"object", "base"} and value not in (None, {}):
            fields.add_row(name, _when(task["created"]) if name == "created" else _said(value))
    base = task["base"]
    fields.add_row("base", f"{base['name']}, fingerprint {base['fingerprint']}" if base else "not named")
    _console().print(fields, _history(versions))


def history(versions: list[Version]) -> None:
    """Newest first."""
    _console().print(_history(versions))


def _history(versions: list[Version]) -> Table:
    table = Table(*HISTORY)
    for line in versions:
        digest, source = (line["digest"] or "")[:DIGEST], line["source_version"]
        event = (line["event"], _when(line["created"]), str(line["bytes"]), "" if source is None else str(source))
        table.add_row(str(line["version"]), *event, digest)
    return table


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {one:.4g}" if isinstance(one, float) else f"{name} {one}" for name, one in value.items()
        )
    return repr(value) if isinstance(value, str) and (value != value.strip() or "\n" in value) else str(value)


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _console() -> Console:
    """As wide as the terminal; where there is none, nothing is cut."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    return console
