"""`python -m demos learn|score [NAME ...]`: make the demo tasks, then score them over HTTP. Run from a checkout."""

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from cli.client import Url
from cli.loading import load_base
from demos.learn import Place, design, fine_tune, learn
from demos.recipes import DESIGNS, RECIPES
from demos.score import score

YARDSTICK = "-fine-tuning"
LEARNT = [*RECIPES, *DESIGNS, *(name + YARDSTICK for name in RECIPES)]
EMBEDDED = "server/default/base"

Names = Annotated[list[str] | None, Argument(help=f"All when left out: {', '.join(LEARNT)}")]
Data = Annotated[Path, Option(help="The folder that holds all data sets", exists=True)]
Out = Annotated[Path, Option(help="Where prompt files, reports and results go")]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command("learn")
def learn_all(  # noqa: PLR0913, PLR0917 - one argument per option
    names: Names = None,
    data: Data = Path("../shared/data"),
    model: Annotated[str, Option(help="The frozen base")] = EMBEDDED,
    out: Out = Path("build/demos"),
    device: Annotated[str, Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int | None, Option(help="CPU threads")] = None,
) -> None:
    """Learn tasks, each on a base of its own; goes on where a killed run was."""
    out.mkdir(parents=True, exist_ok=True)
    place = Place(data, out)
    for name in _known(names, LEARNT):
        typer.echo(name)
        base = load_base(model, device, threads, None)
        if name in DESIGNS:
            design(name, base, place)
        elif name in RECIPES:
            learn(name, base, place)
        else:
            fine_tune(name.removesuffix(YARDSTICK), base, place)


@app.command("score")
def score_all(
    names: Names = None, data: Data = Path("../shared/data"), out: Out = Path("build/demos"), url: Url = None
) -> None:
    """Score files on their whole test part, over HTTP, once; the figures go into the files and results.json."""
    for name in _known(names, [*RECIPES, *DESIGNS]):
        typer.echo(f"{name}: {json.dumps(score(name, data, out, url)['test'])}")


def _known(names: list[str] | None, known: list[str]) -> list[str]:
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(known)}")
    return names or known


if __name__ == "__main__":
    app()
