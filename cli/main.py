"""`softprompt`: the command and its subcommands. Knows their names and where each is written, and nothing else."""

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from server.waiting import spin_shortly

COMMANDS = {
    "serve": "cli.serve",
    "tune": "cli.tune",
    "eval": "cli.evaluate",
    "tasks": "cli.tasks",
    "push": "cli.tasks",
    "pull": "cli.tasks",
    "rollback": "cli.tasks",
    "rm": "cli.tasks",
    "generate": "cli.generate",
    "doctor": "cli.doctor",
}
"""Name of a command and the module that holds its function, which has the same name but for FUNCTIONS."""
FUNCTIONS = {"eval": "evaluate"}


class Lazily(TyperGroup):
    """Imports a command's module when it is called: torch takes seconds, and most commands need none."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - likewise
        if cmd_name not in COMMANDS:
            return None
        spin_shortly()
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(getattr(import_module(COMMANDS[cmd_name]), FUNCTIONS.get(cmd_name, cmd_name)))
        return typer.main.get_command(alone)


app = typer.Typer(cls=Lazily, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


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
