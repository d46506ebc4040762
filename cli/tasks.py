"""`softprompt tasks | push | pull | rollback | rm`: what is published on a running server, and how it changes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from cli.client import AsJson, TaskId, Url, asking, fail, show, task_ids
from prompt_store.errors import PromptError
from prompt_store.metadata import Kind
from prompt_store.peft import read_directory, to_peft
from prompt_store.prompt import parse
from softprompt_client.answers import Task, Version

COLUMNS = ("version", "kind", "length", "bytes", "verified", "servable")
HISTORY = ("version", "event", "created", "bytes", "source_version", "digest")
WIDE = 240
"""Columns of a table that no terminal shows."""
NARROW = 12
"""Columns of a description below which it is left out."""
DIGEST = 12
"""Characters of a digest that tell versions apart on a screen."""


def tasks(
    task: Annotated[
        str | None, Argument(help="Show this one and its versions.", autocompletion=task_ids, show_default=False)
    ] = None,
    kind: Annotated[Kind | None, Option(help="Only of this kind.", show_default=False)] = None,
    search: Annotated[str, Option(help="Only ids that begin so.", show_default=False)] = "",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, or show one with its versions."""
    if task is not None and (kind or search):
        raise typer.BadParameter("--kind and --search narrow a list; one task is named by its id alone")
    with asking(url) as client:
        if task is None:
            found = list(client.tasks.list(kind=kind, search=search))
            show(found) if as_json else _listed(found)
            return
        one, history = client.tasks.get(task), client.tasks.versions(task)
    show({**one, "versions": history}) if as_json else _shown(one, history)


def push(  # noqa: PLR0913, PLR0917 - one argument per query parameter of an upload
    task: TaskId,
    path: Annotated[Path, Argument(help="Prompt file, PEFT directory or adapter_model.safetensors, or .json.")],
    template: Annotated[str | None, Option(help="Of a bare PEFT file. Default {input}.")] = None,
    target_delimiter: Annotated[str | None, Option(help="Of a bare PEFT file. Default one space.")] = None,
    labels: Annotated[str | None, Option(help="Of a bare PEFT file, comma-separated.")] = None,
    description: Annotated[str | None, Option(help="Of a bare PEFT file.")] = None,
    task_index: Annotated[int | None, Option(help="Of a multitask PEFT file: which task.")] = None,
    kind: Annotated[Kind | None, Option(help="Of a bare PEFT file whose width fits two kinds.")] = None,
    create_only: Annotated[bool, Option("--create-only", help="Fail if the task is there already.")] = False,
    url: Url = None,
) -> None:
    """Publish a version of a task."""
    try:
        source, learnt_as = read_directory(path) if path.is_dir() else (path, None)
        with asking(url) as client:
            done = client.tasks.publish(
                task,
                source,
                template=template,
                target_delimiter=target_delimiter,
                labels=None if labels is None else labels.split(","),
                description=description,
                kind=kind or learnt_as,
                task_index=task_index,
                create_only=create_only,
            )
    except OSError as error:
        fail(str(error))
    except PromptError as error:
        fail(f"{path}: {error.message}")
    change = "is now" if done.created else "already was"
    typer.echo(f"{done.task['id']} {change} version {done.task['version']}, digest {done.task['digest']}")


def pull(
    task: TaskId,
    out: Annotated[Path, Option("--out", "-o", help="Where the prompt file goes.")],
    version: Annotated[int | None, Option(help="Default: the current one.")] = None,
    as_peft: Annotated[bool, Option("--peft", help="Write a directory that PEFT loads.")] = False,
    url: Url = None,
) -> None:
    """Download the prompt file of a version."""
    with asking(url) as client:
        number = version if version is not None else client.tasks.get(task)["version"]
        file = client.tasks.prompt(task, number)
    try:
        if as_peft:
            to_peft(parse(file.data), out)
        else:
            out.write_bytes(file.data)
    except OSError as error:
        fail(str(error))
    except PromptError as error:
        fail(error.message)
    typer.echo(f"version {number}, {len(file.data)} bytes, digest {file.digest}")


def rollback(
    task: TaskId, version: Annotated[int, Argument(help="Whose content comes back.")], url: Url = None
) -> None:
    """Make a new version with the content of an old one."""
    with asking(url) as client:
        found = client.tasks.rollback(task, version).task
    typer.echo(f"{found['id']} is now version {found['version']}, digest {found['digest']}")


def rm(task: TaskId, url: Url = None) -> None:
    """Delete a task. Its versions stay: `softprompt rollback` brings it back."""
    with asking(url) as client:
        client.tasks.delete(task)
    typer.echo(f"{task} is deleted")


def _listed(found: list[Task]) -> None:
    """A row for each; only the description may be cut."""
    rows = [[task["id"], *(str(task[name]) for name in COLUMNS)] for task in found]  # type: ignore[literal-required]  # each is a field
    table = Table()
    for name, *cells in zip(("task", *COLUMNS), *rows, strict=True):
        table.add_column(name, min_width=max(map(len, (name, *cells))))
    console = _console()
    room = console.width - sum(column.min_width or 0 for column in table.columns) - 3 * len(table.columns) - 4
    if room >= NARROW:
        table.add_column("description", no_wrap=True, overflow="ellipsis", max_width=room)
    for task, cells in zip(found, rows, strict=True):
        table.add_row(*cells, *([task["description"] or ""] if room >= NARROW else []))
    console.print(table)


def _shown(task: Task, history: list[Version]) -> None:
    """What a person wants to know of one task, then its versions, newest first."""
    fields = Table(show_header=False, box=None)
    for name, value in task.items():
        if name not in {"object", "base"} and value not in (None, {}):
            fields.add_row(name, _when(task["created"]) if name == "created" else _said(value))
    base = task["base"]
    fields.add_row("base", f"{base['name']}, fingerprint {base['fingerprint']}" if base else "not named")
    table = Table(*HISTORY)
    for line in history:
        digest, source = (line["digest"] or "")[:DIGEST], line["source_version"]
        event = (line["event"], _when(line["created"]), str(line["bytes"]), "" if source is None else str(source))
        table.add_row(str(line["version"]), *event, digest)
    _console().print(fields, table)


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
