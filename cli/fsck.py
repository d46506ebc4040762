"""`softprompt fsck`: is every version of a store whole, and what to do about those that are not."""

from dataclasses import asdict
from typing import Annotated

import typer
from typer import Option

from cli.client import FAILED, show
from cli.progress import steps
from cli.published import telling
from cli.stores import Location, location, opened
from prompt_store.check import Checked, check
from prompt_store.findings import Found, counted, size


def fsck(
    store: Location = None,
    repair: Annotated[bool, Option("--repair", help="Put files back from the trash, and from --from.")] = False,
    source: Annotated[
        str | None, Option("--from", help="A copy of the store to take files from.", show_default=False)
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON: counts and findings.")] = False,
) -> None:
    """Check every version and every file of a store; exit code 1 while damage is left."""
    if source is not None and not repair:
        raise typer.BadParameter("--from is where --repair takes files from: name both")
    with telling():
        place = location(store)
        objects = opened(place).objects
        copy = None if source is None else opened(source).objects
        with steps() as told:
            checked = check(objects, repair=repair, source=copy, called=source or "", steps=told)
    if as_json:
        show({"store": place, "damage": checked.damage, **asdict(checked)})
    else:
        _told(place, checked)
    raise typer.Exit(FAILED if checked.damage else 0)


def _told(place: str, checked: Checked) -> None:
    for found in checked.found:
        typer.echo(line(found))
    typer.echo(
        f"{place}: {counted(checked.tasks, 'task')}, {counted(checked.versions, 'version')},"
        f" {counted(checked.files, 'file')}, {size(checked.bytes)}; {checked.damage} damaged"
    )


def line(found: Found) -> str:
    """Where, what, and behind an arrow what to do."""
    mark = "DAMAGED" if found.damage else "mended" if found.mended else "note"
    where = "" if found.task is None else f" {found.task} version {found.version}:"
    return f"{mark}{where} {found.said}{f' -> {found.advice}' if found.advice else ''}"
