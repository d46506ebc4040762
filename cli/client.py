"""What the client commands share: a client of the server, how its errors are told, and ids for the shell to complete.

Knows the client and nothing of what is asked.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, NoReturn

import typer
from typer import Argument, Option

from softprompt_client import Client, SoftpromptError
from softprompt_client.errors import NO_ANSWER

FAILED = 1
INTERRUPTED = 130
RETRIES = 1
"""A person waits: once more, a moment later, and then the reason."""
SHELL_SECONDS = 1.0
"""For a server to name its tasks to somebody who has pressed Tab."""


def task_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids that begin so, for the shell; none when no server answers at once, or a store is asked in its place."""
    if ctx.params.get("store") is not None:
        return []
    try:
        with Client(ctx.params.get("url"), timeout=SHELL_SECONDS, retries=0) as client:
            return [task["id"] for task in client.tasks.list(search=incomplete)]
    except (SoftpromptError, ValueError):
        return []


Url = Annotated[str | None, Option(help="Address of the server. Default SOFTPROMPT_URL, or http://127.0.0.1:8000.")]
AsJson = Annotated[bool, Option("--json", help="Print JSON: what the server answered.")]
TaskId = Annotated[str, Argument(help="Id of the task.", autocompletion=task_ids, show_default=False)]


@contextmanager
def asking(url: str | None, *, retries: int = RETRIES, task: str | None = None) -> Iterator[Client]:
    """A client. What goes wrong inside is told on the screen, with exit code 1. `task`: what is asked about."""
    try:
        client = Client(url, retries=retries)
    except ValueError as error:
        fail(str(error))
    with client:
        try:
            yield client
        except SoftpromptError as error:
            fail(told(error, client.url, task))
        except UnicodeEncodeError as error:
            if error.encoding != "utf-8":
                raise
            raise typer.BadParameter("an argument holds what is no character: it is not UTF-8") from None


def told(error: SoftpromptError, url: str, task: str | None = None) -> str:
    """An error in a line, with a hint where it is about a task. No answer is mostly a matter of the address."""
    if error.code == NO_ANSWER:
        return f"{url} did not answer ({error.message}); another address: --url or SOFTPROMPT_URL"
    if error.status == HTTPStatus.UNAUTHORIZED:
        return f"{error}; here it comes from SOFTPROMPT_ADMIN_KEY or SOFTPROMPT_API_KEY, or their _FILE"
    return f"{error}{hint(error.code, error.message, task)}"


def hint(code: str, message: str, task: str | None, store: str | None = None) -> str:
    """The command that helps, behind what was said of a task; nothing where the command is about none."""
    if task is None:
        return ""
    at = flag(store)
    if code == "task_not_found" and "deleted" in message:
        return f" (softprompt undelete {task}{at} brings it back)"
    if code == "task_not_found":
        return f" (softprompt tasks{at} lists them)"
    return f" (softprompt versions {task}{at} lists them)" if code in {"version_not_found", "version_deleted"} else ""


def flag(store: str | None) -> str:
    """Behind a command that is told to somebody who named a store."""
    return "" if store is None else f" --store {shlex.quote(store)}"


def of_system(error: OSError) -> str:
    """What the system would not do, and with which file."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"{error.filename} is not there"
    said = error.strerror or str(error)
    return said if error.filename is None else f"{error.filename}: {said}"


def fail(message: str) -> NoReturn:
    note(message)
    raise typer.Exit(FAILED)


def note(message: str) -> None:
    typer.echo(f"softprompt: {message}", err=True)


def show(answer: Any) -> None:
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
