"""`softprompt gc`: collect what no version of a store names, and versions where somebody asks for that."""

from dataclasses import asdict, fields
from typing import Annotated

import typer
from typer import Option

from cli.client import show
from cli.progress import steps
from cli.published import telling
from cli.stores import Location, location, opened
from prompt_store.findings import counted, size
from prompt_store.garbage import Collected, Tally, collect
from prompt_store.retention import DAY, Rules

HOUR = 3600.0
SAID = {
    "versions": ("version", "removed"),
    "recent": ("version", "to be removed once the grace is over"),
    "moved": ("file", "moved into the trash"),
    "back": ("file", "moved back: named by a version"),
    "removed": ("file", "removed for good"),
    "young": ("file", "named by nothing, and younger than the grace"),
    "waiting": ("file", "waiting in the trash"),
}
"""What is counted, and what became of it."""


def gc(  # noqa: PLR0913, PLR0917 - one argument per option
    store: Location = None,
    grace: Annotated[float, Option(help="Hours that a file stays where it is, and then in the trash.", min=0)] = 24,
    keep: Annotated[
        int | None, Option(help="Remove versions below the newest N of each task that hold something.", min=1)
    ] = None,
    deleted_after: Annotated[
        float | None, Option(help="Remove all but the tombstone of tasks deleted so many days ago.", min=0)
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    despite_damage: Annotated[
        bool, Option("--despite-damage", help="Collect though a manifest cannot be read, as if it named nothing.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON: counts and bytes.")] = False,
) -> None:
    """Collect files that no version names, in two steps with a grace between them; servers may run meanwhile."""
    with telling():
        place = location(store)
        forgotten = None if deleted_after is None else deleted_after * DAY
        rules = Rules(grace * HOUR, keep, forgotten, despite_damage, dry_run)
        with steps() as told:
            done = collect(opened(place).objects, rules, told)
    if as_json:
        show({"store": place, "dry_run": dry_run, **asdict(done)})
        return
    _told(place, done, dry_run=dry_run)


def _told(place: str, done: Collected, *, dry_run: bool) -> None:
    typer.echo(f"{place}, nothing was changed; what would be:" if dry_run else place)
    tallies: dict[str, Tally] = {field.name: getattr(done, field.name) for field in fields(done)}
    for name, tally in tallies.items():
        if tally.count:
            what, became = SAID[name]
            typer.echo(f"{counted(tally.count, what):>16}  {size(tally.bytes):>12}  {became}")
    if not any(tally.count for tally in tallies.values()):
        typer.echo("nothing to do")
