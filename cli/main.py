"""`softprompt`: the command and its subcommands. Knows their names and nothing else."""

import typer

from cli.tune import tune

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.command()(tune)


@app.callback()
def main() -> None:
    """One frozen language model, many tasks."""
