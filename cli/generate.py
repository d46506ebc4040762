"""`softprompt generate`: one input, or a file of them; or what would be sent, generating nothing.

Knows options and what is said on the screen; how lines are read and answered is said elsewhere.
"""

import json
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from cli.answering import Job, answer_file, render_file
from cli.client import AsJson, Url, asking, show, task_ids

CONCURRENCY = 32


def _finite(number: float | None) -> float | None:
    if number is not None and not isfinite(number):
        raise typer.BadParameter("a finite number is wanted")
    return number


def generate(  # noqa: PLR0913, PLR0917 - one argument per option
    task: Annotated[
        str | None,
        Argument(help="Id of the task, or `base`: the bare model.", autocompletion=task_ids, show_default=False),
    ] = None,
    inputs: Annotated[
        str | None, Argument(help="Text, or a JSON object of fields when the task has several.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        Option("--file", "-f", help='Requests, one JSON object a line: {"task", "inputs", "parameters"}; - is stdin.'),
    ] = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Their answers, in order; goes on where it was. Default -: stdout.")
    ] = None,
    concurrency: Annotated[int, Option(help="Requests of a file in flight.", min=1, max=512)] = CONCURRENCY,
    max_new_tokens: Annotated[int | None, Option(help="Default: the task's.", show_default=False)] = None,
    temperature: Annotated[
        float | None, Option(help="Default: the task's, else 0.", min=0, callback=_finite, show_default=False)
    ] = None,
    seed: Annotated[
        int | None, Option(help="What is drawn. Default: any; for a file 0.", min=0, show_default=False)
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Show what would be sent, and generate nothing.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Answer one input, or a file of them."""
    parameters = {"max_new_tokens": max_new_tokens, "temperature": temperature}
    given = {name: value for name, value in parameters.items() if value is not None}
    if file is not None:
        if inputs is not None:
            raise typer.BadParameter("inputs stand in the file: name a task at most")
        job = Job(file, out or Path("-"), task, given, seed or 0, concurrency, url)
        raise typer.Exit(render_file(job) if dry_run else answer_file(job))
    if out is not None:
        raise typer.BadParameter("--out belongs to --file")
    if task is None or inputs is None:
        raise typer.BadParameter("a task and its inputs are wanted, or --file")
    request = {"task": task, "inputs": _inputs(inputs), "parameters": given | ({} if seed is None else {"seed": seed})}
    if dry_run:
        _render(request, url, as_json)
    else:
        _answer(request, url, as_json)


def _answer(request: dict[str, Any], url: str | None, as_json: bool) -> None:
    with asking(url, task=request["task"]) as client:
        answer = client.generate_request(request)
    show(answer) if as_json else typer.echo(answer.get("generated_text", ""))


def _render(request: dict[str, Any], url: str | None, as_json: bool) -> None:
    with asking(url, task=request["task"]) as client:
        found = client.render_request(request)
    if as_json:
        show(found)
        return
    counts = found["counts"]
    typer.echo(found["text"])
    typer.echo(
        f"{found['task']}: {counts['prompt_tokens']} tokens of text and {counts['soft_tokens']} of the soft prompt,"
        f" within {counts['context']}",
        err=True,
    )


def _inputs(text: str) -> Any:
    """A JSON object is fields; everything else is text."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
