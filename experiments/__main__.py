"""`python -m experiments run|report`: the source text's results on public data. Run from a checkout."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from typer import Option

from cli.loading import load_base
from cli.watching import watch
from experiments.cells import BASE, TABLES, cells, estimate, groups
from experiments.run import Place, run
from tuning.base import FrozenBase

Data = Annotated[Path, Option(help="The folder that holds all data sets", exists=True)]
Results = Annotated[Path, Option(help="A JSON file for each cell")]
EMBEDDED, SMALLER = "server/default/base", "build/bases"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command("run")
def run_all(
    data: Data = Path("../shared/data"),
    results: Results = Path("experiments/results"),
    only: Annotated[str, Option(help="Tables, with commas between: " + ", ".join(TABLES))] = ",".join(TABLES),
    threads: Annotated[int | None, Option(help="CPU threads")] = None,
    dry: Annotated[bool, Option("--dry", help="Only say what there is to do")] = False,
) -> None:
    """Every cell that has no result yet; prints what that will take first."""
    results.mkdir(parents=True, exist_ok=True)
    scratch = Path("build/experiments")
    scratch.mkdir(parents=True, exist_ok=True)
    place = Place(data, results, scratch, lambda size: _base(size, threads))
    tables = list(dict.fromkeys(only.split(",")))
    if unknown := [table for table in tables if table not in TABLES]:
        raise typer.BadParameter(f"{', '.join(unknown)}: tables are {', '.join(TABLES)}", param_hint="--only")
    chosen = list(cells(tables))
    left = [cell for cell in chosen if not place.file(cell).exists()]
    hours = estimate(left)
    typer.echo(f"{len(left)} of {len(chosen)} cells to do: {hours:.1f} CPU-hours, {hours / 2:.1f} hours on two cores")
    if dry:
        return
    for group in groups(left):
        typer.echo(" ".join(group[0].group))
        watch(run(group, place), as_json=False)


@app.command("report")
def report(
    results: Results = Path("experiments/results"),
    page: Annotated[Path, Option(help="Whose tables are written anew")] = Path("docs/experiments.md"),
) -> None:
    """Tables and pictures of the results that are there."""
    from experiments.report import load, write  # noqa: PLC0415 - matplotlib is an extra

    found = load(results)
    write(found, page)
    typer.echo(f"{page}: {len(found)} results")


def _base(size: str, threads: int | None) -> FrozenBase:
    """The embedded base, or a smaller one that `make bases` has trained."""
    if threads is not None:
        torch.set_num_threads(threads)
    return load_base(EMBEDDED if size == BASE else f"{SMALLER}/{size}", "auto", threads, None)


@app.callback()
def main() -> None:
    """Each cell one JSON; what is there is not done again."""


if __name__ == "__main__":
    app()
