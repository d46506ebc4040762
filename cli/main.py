"""`softprompt`: the command and its subcommands. Knows their names, where each is written and what it is for."""

import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from server.early import ending_when_told, uncollected
from server.waiting import spin_shortly


class Place(NamedTuple):
    """A command's module, the first line of its help, and its function where that has another name."""

    module: str
    help: str
    function: str | None = None


COMMANDS = {
    "serve": Place("cli.serve", "Serve one frozen base and the tasks of a store."),
    "tasks": Place("cli.tasks", "List tasks, or show one with its versions."),
    "versions": Place("cli.tasks", "List the versions of a task, of a deleted one too, newest first."),
    "push": Place("cli.tasks", "Publish a version of a task."),
    "pull": Place("cli.tasks", "Download the prompt file of a version."),
    "rollback": Place("cli.tasks", "Make a new version with the content of an old one."),
    "rm": Place("cli.tasks", "Delete a task. Its versions stay: `softprompt undelete` brings it back."),
    "undelete": Place(
        "cli.tasks", "Bring a deleted task back as it was: a new version with the content of its last one."
    ),
    "gc": Place(
        "cli.gc",
        "Collect files that no version names, in two steps with a grace between them; servers may run meanwhile.",
    ),
    "fsck": Place("cli.fsck", "Check every version and every file of a store; exit code 1 while damage is left."),
    "generate": Place("cli.generate", "Answer one input, or a file of them."),
    "tune": Place(
        "cli.tune", "Learn a task on a frozen base, by one method or several; write the best prompt file and a report."
    ),
    "eval": Place("cli.evaluate", "Judge prompt files on held-out rows, as they would be served.", "evaluate"),
    "bench": Place("cli.bench", "Load a running server and measure it."),
    "doctor": Place("cli.doctor", "Check the machine, the settings, the base, the store and the server."),
}
LISTING = "softprompt.listing"
"""In a context while commands are listed, for help or for a shell."""


class Lazily(TyperGroup):
    """Imports a command's module when it is called: torch takes seconds, and most commands need none."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        place = COMMANDS[cmd_name]
        if LISTING in ctx.meta:
            return TyperCommand(cmd_name, help=place.help)
        spin_shortly()
        if cmd_name == "serve":
            ctx.with_resource(ending_when_told())
        known = place.module in sys.modules  # in a program of somebody else's, who has garbage of his own
        with nullcontext() if known else uncollected():
            module = import_module(place.module)
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(getattr(module, place.function or cmd_name))
        return typer.main.get_command(alone)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.meta[LISTING] = True
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        ctx.meta[LISTING] = True
        return super().shell_complete(ctx, incomplete)


app = typer.Typer(cls=Lazily, no_args_is_help=True, pretty_exceptions_enable=False)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(version("softprompt-server"))
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """One frozen language model, many tasks."""
