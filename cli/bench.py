"""`softprompt bench`: a load on a running server, and what its clients see: first tokens, tokens, errors.

Knows what is asked and how figures look; the measuring is `load`'s.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count, cycle, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

from cli.client import AsJson, Url, asking, fail, show, task_ids
from cli.lines import read
from cli.load import Load, Request, load
from cli.progress import progress
from prompt_store.template import Template
from softprompt_client import AsyncClient, Client
from softprompt_client.answers import Task

REQUESTS = 500
SHOWN = {"first_token_ms": "to the first token", "token_ms": "per token after it", "request_ms": "whole request"}
TEXTS = (
    "The train to the coast leaves at nine and is rarely late.",
    "Could you play something quiet for the evening?",
    "She read the letter twice before she put it away.",
    "Please book a table for four on Friday at the small place near the bridge.",
    "It rained all week, so the river stood higher than anyone remembered.",
    "How long does it take to boil an egg?",
    "The museum opens at ten, and children do not pay.",
    "A warm and funny film with a slow beginning.",
    "My card was declined although there is money in the account.",
    "Turn off the lights in the kitchen and lock the door.",
    "The second half of the match was far better than the first.",
    "We counted the birds on the lake every morning in spring.",
)
"""What is asked where no file is given: plain sentences."""


def bench(  # noqa: PLR0913, PLR0917 - one argument per option
    task: Annotated[
        list[str] | None,
        Option(
            help="A task to ask, or `base`; may be repeated. Default: all that can be served.", autocompletion=task_ids
        ),
    ] = None,
    file: Annotated[
        Path | None, Option("--file", "-f", help="Requests, as of generate --file. Default: plain sentences.")
    ] = None,
    concurrency: Annotated[int, Option(help="Requests in flight.", min=1, max=4096)] = 32,
    requests: Annotated[
        int | None, Option(help="How many. Default 500, or with --duration as many as it takes.", min=1)
    ] = None,
    duration: Annotated[float | None, Option(help="Begin none after so many seconds.", min=0.1)] = None,
    max_new_tokens: Annotated[int, Option(help="Of each answer, where a line does not say.", min=1)] = 32,
    ignore_eos: Annotated[bool, Option("--ignore-eos", help="Answers have exactly that many tokens.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Load a running server and measure it."""
    parameters = {"max_new_tokens": max_new_tokens, "ignore_eos": ignore_eos}
    with asking(url) as client:
        asked = _of_file(file, task, parameters) if file is not None else _of_texts(_tasks(client, task), parameters)
        _warm_up(client, asked)
    endless = cycle(asked)
    number = requests if requests is not None or duration is not None else REQUESTS
    found = _run(url, endless if number is None else islice(endless, number), concurrency, duration, number)
    named = sorted({one.get("task", "base") for one in asked})
    figures = {"url": client.url, "tasks": named, "concurrency": concurrency, **found.figures()}
    show(figures) if as_json else _printed(figures)
    raise typer.Exit(int(bool(figures["errors"])))


def _tasks(client: Client, names: Sequence[str] | None) -> list[Task | None]:
    """Those that are named, else all that can be served, else the bare model: None."""
    if names:
        return [None if name == "base" else client.tasks.get(name) for name in names]
    return [task for task in client.tasks.list() if task["servable"]] or [None]


def _of_texts(tasks: Sequence[Task | None], parameters: dict[str, Any]) -> list[Request]:
    """Every task in turn, each with every sentence; a field more is the next sentence."""
    found: list[Request] = []
    for start, task in ((start, task) for start in range(len(TEXTS)) for task in tasks):
        texts = (TEXTS[place % len(TEXTS)] for place in count(start))
        if task is None:
            found.append({"inputs": next(texts), "parameters": parameters})
            continue
        fields = Template.parse(task["template"], task["kind"], task["length"]).fields
        found.append({"task": task["id"], "inputs": dict(zip(fields, texts, strict=False)), "parameters": parameters})
    return found


def _of_file(file: Path, tasks: Sequence[str] | None, parameters: dict[str, Any]) -> list[Request]:
    """The file's lines in order; lines that name no task are asked of each that is named here."""
    found: list[Request] = []
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    for name in tasks or [None]:  # type: ignore[list-item]  # None: every line names its own
        for line in read(lines, name, parameters):
            if line.error is not None:
                fail(f"{file}, line {line.number}: {line.error['message']}")
            found.append(line.request)
    if not found:
        fail(f"{file} holds no request")
    return found


def _warm_up(client: Client, asked: Sequence[Request]) -> None:
    """Each task once for one token: what is loaded first is not what is measured. Ends at the first error."""
    first: dict[str, Request] = {}
    for one in asked:
        first.setdefault(one.get("task", "base"), one)
    for one in first.values():
        client.generate_request({**one, "parameters": {**one["parameters"], "max_new_tokens": 1}})


def _run(
    url: str | None, requests: Iterator[Request], concurrency: int, duration: float | None, number: int | None
) -> Load:
    async def measured() -> Load:
        async with AsyncClient(url, retries=0) as client:
            return await load(client, requests, concurrency, duration, tick)

    with ExitStack() as stack:
        tick = stack.enter_context(progress(number))
        return asyncio.run(measured())


def _printed(figures: dict[str, Any]) -> None:
    console = Console(highlight=False)
    failed = sum(figures["errors"].values())
    table = Table("milliseconds", *("mean", "p50", "p90", "p99", "max"))
    for name, said in SHOWN.items():
        spread = figures[name]
        table.add_row(said, *(f"{value:.1f}" for value in spread.values()) if spread else ())
    console.print(f"{figures['requests']} requests, {figures['concurrency']} in flight, {len(figures['tasks'])} tasks")
    console.print(table)
    console.print(
        f"{figures['tokens_per_second']:.1f} tokens/s, {figures['requests_per_second']:.1f} requests/s,"
        f" {figures['tokens']} tokens in {figures['seconds']:.1f} s, {failed} errors"
    )
    for code, number in figures["errors"].items():
        console.print(f"  {number} {code}")
