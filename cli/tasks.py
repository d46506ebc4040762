"""`softprompt tasks | versions | push | pull | rollback | rm | undelete`: what is published, and how it changes.

Knows neither servers nor stores: both are asked alike (cli/published.py).
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from cli import tables
from cli.client import AsJson, TaskId, Url, fail, flag, note, of_system, show, task_ids
from cli.direct import Direct
from cli.published import At, Published, published
from prompt_store.errors import PromptError
from prompt_store.metadata import Kind
from prompt_store.peft import read_directory, to_peft
from prompt_store.prompt import parse
from softprompt_client.answers import Version


def tasks(  # noqa: PLR0913, PLR0917 - one argument per option
    task: Annotated[
        str | None, Argument(help="Show this one and its versions.", autocompletion=task_ids, show_default=False)
    ] = None,
    kind: Annotated[Kind | None, Option(help="Only of this kind.", show_default=False)] = None,
    search: Annotated[str, Option(help="Only ids that begin so.", show_default=False)] = "",
    url: Url = None,
    store: At = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, or show one with its versions."""
    if task is not None and (kind or search):
        raise typer.BadParameter("--kind and --search narrow a list; one task is named by its id alone")
    with published(url, store, task) as place:
        if task is None:
            found = list(place.list(kind=kind, search=search))
            show(found) if as_json else tables.listed(found)
            return
        one, history = place.get(task), place.versions(task)
        left_out = list(_left_out(place, task, history, store))
    show({**one, "versions": history}) if as_json else tables.shown(one, history)
    for said in left_out:
        note(said)


def versions(task: TaskId, url: Url = None, store: At = None, as_json: AsJson = False) -> None:
    """List the versions of a task, of a deleted one too, newest first."""
    with published(url, store, task) as place:
        history = place.versions(task)
        left_out = list(_left_out(place, task, history, store))
    show(history) if as_json else tables.history(history)
    for said in left_out:
        note(said)


def _left_out(place: Published, task: str, history: list[Version], store: str | None) -> Iterator[str]:
    """What a list does not show. A server tells no more than the numbers that it has."""
    if isinstance(place, Direct):
        for number, said in place.unreadable(task, history):
            yield f"version {number} is damaged, and not listed: {said}: softprompt fsck{flag(store)}"
        return
    for newer, older in pairwise(line["version"] for line in history):
        if newer - older > 1:
            several = newer - older > 2
            numbers = f"versions {older + 1} to {newer - 1} are" if several else f"version {older + 1} is"
            was = "they were" if several else "it was"
            yield f"{numbers} not listed: {was} removed by gc --keep, or cannot be read: softprompt fsck"


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
    store: At = None,
    model: Annotated[
        Path | None, Option(help="With --store: folder of the base that the file must fit.", show_default=False)
    ] = None,
) -> None:
    """Publish a version of a task."""
    try:
        source, learnt_as = read_directory(path) if path.is_dir() else (path, None)
        with published(url, store, task, model=model, make=True) as place:
            done = place.publish(
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
        fail(of_system(error))
    except PromptError as error:
        fail(f"{path}: {error.message}")
    if store is not None and model is None:
        note("nothing was verified: --model names the base that the file is held against")
    change = "is now" if done.created else "already was"
    typer.echo(f"{done.task['id']} {change} version {done.task['version']}, digest {done.task['digest']}")


def pull(  # noqa: PLR0913, PLR0917 - one argument per option
    task: TaskId,
    out: Annotated[Path, Option("--out", "-o", help="Where the prompt file goes.")],
    version: Annotated[int | None, Option(help="Default: the current one.")] = None,
    as_peft: Annotated[bool, Option("--peft", help="Write a directory that PEFT loads.")] = False,
    url: Url = None,
    store: At = None,
) -> None:
    """Download the prompt file of a version."""
    with published(url, store, task) as place:
        number = version if version is not None else place.get(task)["version"]
        file = place.prompt(task, number)
    try:
        if as_peft:
            to_peft(parse(file.data), out)
        else:
            out.write_bytes(file.data)
    except OSError as error:
        fail(of_system(error))
    except PromptError as error:
        fail(error.message)
    typer.echo(f"version {number}, {len(file.data)} bytes, digest {file.digest}, written to {out}")


def rollback(
    task: TaskId,
    version: Annotated[int, Argument(help="Whose content comes back.")],
    url: Url = None,
    store: At = None,
) -> None:
    """Make a new version with the content of an old one."""
    with published(url, store, task) as place:
        done = place.rollback(task, version)
    found, change = done.task, "is now" if done.created else "already was"
    of = "" if found["version"] == version else f" with the content of version {version}"
    typer.echo(f"{found['id']} {change} version {found['version']}{of}, digest {found['digest']}")


def rm(task: TaskId, url: Url = None, store: At = None) -> None:
    """Delete a task. Its versions stay: `softprompt undelete` brings it back."""
    with published(url, store, task) as place:
        place.delete(task)
    typer.echo(f"{task} is deleted (softprompt undelete {task}{flag(store)} brings it back)")


def undelete(task: TaskId, url: Url = None, store: At = None) -> None:
    """Bring a deleted task back as it was: a new version with the content of its last one."""
    with published(url, store, task) as place:
        history = place.versions(task)
        if not history:
            fail(f"no version of {task} can be read: softprompt fsck{flag(store)}")
        newest, *older = history
        if newest["event"] != "delete":
            fail(f"{task} is not deleted: version {newest['version']} is current")
        last = next((line["version"] for line in older if line["digest"] is not None), None)
        if last is None:
            fail(f"nothing but its tombstone is left of {task}: publish it again")
        found = place.rollback(task, last).task
    typer.echo(f"{task} is back: version {found['version']} with the content of version {last}")
