"""`softprompt tasks | push | pull | rollback | rm | generate`: one request each to a running server."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from cli.client import AsJson, Url, call, fail, show
from prompt_store.errors import PromptError
from prompt_store.peft import read_directory, to_peft
from prompt_store.prompt import parse

COLUMNS = ("version", "kind", "length", "bytes", "verified", "servable")
WIDE = 240
"""Columns of a table that no terminal shows."""
NARROW = 12
"""Columns of a description below which it is left out."""
Task = Annotated[str, Argument(help="Id of the task")]


def tasks(
    search: Annotated[str, Argument(help="Only ids that begin so")] = "", url: Url = None, as_json: AsJson = False
) -> None:
    """List tasks."""
    page: dict[str, Any] = {"last_id": None, "has_more": True}
    found: list[dict[str, Any]] = []
    while page["has_more"]:
        query = {"limit": 1000, "search": search} | ({"after": page["last_id"]} if page["last_id"] else {})
        page = call("GET", "/tasks", url=url, params=query).json()
        found += page["data"]
    if as_json:
        show(found)
        return
    rows = [[str(task[name]) for name in ("id", *COLUMNS)] for task in found]
    table = Table()
    for name, *cells in zip(("task", *COLUMNS), *rows, strict=True):  # only the description may be cut
        table.add_column(name, min_width=max(map(len, (name, *cells))))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    room = console.width - sum(column.min_width or 0 for column in table.columns) - 3 * len(table.columns) - 4
    if room >= NARROW:
        table.add_column("description", no_wrap=True, overflow="ellipsis", max_width=room)
    for task, cells in zip(found, rows, strict=True):
        table.add_row(*cells, *([task["description"] or ""] if room >= NARROW else []))
    console.print(table)


def push(  # noqa: PLR0913, PLR0917 - one argument per query parameter of an upload
    task: Task,
    path: Annotated[Path, Argument(help="Prompt file, PEFT directory or adapter_model.safetensors, or .json")],
    template: Annotated[str | None, Option(help="Of a bare PEFT file. Default {input}")] = None,
    target_delimiter: Annotated[str | None, Option(help="Of a bare PEFT file. Default one space")] = None,
    labels: Annotated[str | None, Option(help="Of a bare PEFT file, comma-separated")] = None,
    description: Annotated[str | None, Option(help="Of a bare PEFT file")] = None,
    task_index: Annotated[int | None, Option(help="Of a multitask PEFT file: which task")] = None,
    kind: Annotated[str | None, Option(help="Of a bare PEFT file whose width fits two kinds")] = None,
    create_only: Annotated[bool, Option("--create-only", help="Fail if the task is there already")] = False,
    url: Url = None,
) -> None:
    """Publish a version of a task."""
    bare = {
        "template": template,
        "target_delimiter": target_delimiter,
        "labels": labels,
        "description": description,
        "task_index": task_index,
        "kind": kind,
    }
    query = {name: str(value) for name, value in bare.items() if value is not None}
    media_type = "application/json" if path.suffix == ".json" else "application/octet-stream"
    headers = {"Content-Type": media_type} | ({"If-None-Match": "*"} if create_only else {})
    answer = call(
        "PUT", f"/tasks/{quote(task, safe='')}", url=url, content=_content(path, query), params=query, headers=headers
    )
    told = answer.json()
    change = "is now" if answer.status_code == 201 else "already was"
    typer.echo(f"{told['id']} {change} version {told['version']}, digest {told['digest']}")


def pull(
    task: Task,
    out: Annotated[Path, Option("--out", "-o", help="Where the prompt file goes")],
    version: Annotated[int | None, Option(help="Default: the current one")] = None,
    as_peft: Annotated[bool, Option("--peft", help="Write a directory that PEFT loads")] = False,
    url: Url = None,
) -> None:
    """Download the prompt file of a version."""
    name = quote(task, safe="")
    number = version if version is not None else call("GET", f"/tasks/{name}", url=url).json()["version"]
    answer = call("GET", f"/tasks/{name}/versions/{number}/prompt", url=url)
    try:
        if as_peft:
            to_peft(parse(answer.content), out)
        else:
            out.write_bytes(answer.content)
    except OSError as error:
        fail(str(error))
    except PromptError as error:
        fail(error.message)
    typer.echo(f"version {number}, {len(answer.content)} bytes, digest {answer.headers['etag'].strip(chr(34))}")


def rollback(task: Task, version: Annotated[int, Argument(help="Whose content comes back")], url: Url = None) -> None:
    """Make a new version with the content of an old one."""
    told = call("POST", f"/tasks/{quote(task, safe='')}/rollback", url=url, json={"version": version}).json()
    typer.echo(f"{told['id']} is now version {told['version']}, digest {told['digest']}")


def rm(task: Task, url: Url = None) -> None:
    """Delete a task. Its versions stay: `softprompt rollback` brings it back."""
    call("DELETE", f"/tasks/{quote(task, safe='')}", url=url)
    typer.echo(f"{task} is deleted")


def generate(  # noqa: PLR0913, PLR0917 - one argument per option
    task: Annotated[str, Argument(help="Id of the task, or `base`")],
    inputs: Annotated[str, Argument(help="Text, or a JSON object of fields when the task has several")],
    max_new_tokens: Annotated[int | None, Option()] = None,
    temperature: Annotated[float | None, Option()] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Answer one input."""
    parameters = {"max_new_tokens": max_new_tokens, "temperature": temperature}
    given = {name: value for name, value in parameters.items() if value is not None}
    body = {"task": task, "inputs": _inputs(inputs), "parameters": given}
    answer = call("POST", "/generate", url=url, json=body).json()
    if as_json:
        show(answer)
    else:
        typer.echo(answer["generated_text"])


def _inputs(text: str) -> Any:
    """A JSON object is fields; everything else is text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


def _content(path: Path, query: dict[str, str]) -> bytes:
    """The bytes to send. A PEFT directory is read for its type, which its weights alone do not say."""
    try:
        if not path.is_dir():
            return path.read_bytes()
        data, query["kind"] = read_directory(path)
    except OSError as error:
        fail(str(error))
    except PromptError as error:
        fail(f"{path}: {error.message}")
    return data
