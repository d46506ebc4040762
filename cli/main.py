"""`softprompt`: the command and its subcommands. Knows their names and nothing else."""

import typer

from cli.doctor import doctor
from cli.serve import serve
from cli.tasks import generate, pull, push, rm, rollback, tasks
from cli.tune import tune

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
for command in (serve, tune, tasks, push, pull, rollback, rm, generate, doctor):
    app.command()(command)


@app.callback()
def main() -> None:
    """One frozen language model, many tasks."""
