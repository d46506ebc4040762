"""`softprompt eval`: figures of prompt files on a data file, each by itself or several heard as one.

Reads each row as the server would; knows files and metrics, nothing of how prompts are learnt.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from cli import options as o
from cli.client import of_system
from cli.loading import load_base
from cli.tune import REFUSED
from prompt_store.prompt import PromptFile, parse
from prompt_store.template import Template
from tuning.base import FrozenBase
from tuning.encoding import Encoded, encode
from tuning.ensemble import How, heard, likelihoods
from tuning.evaluation import Reading, Speaking, judge
from tuning.examples import Example, read
from tuning.files import encoder_of, soft_of
from tuning.labels import check
from tuning.metrics import METRICS
from tuning.plan import Figures

Data = Annotated[Path, Argument(help="Rows to be judged on: .jsonl or .csv, fields by name.", exists=True)]
Files = Annotated[list[Path], Argument(help="Prompt files of one task.", exists=True)]
Metrics = Annotated[str, Option(help="Of free text, with commas between: " + ", ".join(METRICS) + ".")]
Together = Annotated[How | None, Option(help="Hear all files as one: each has a vote, or their probabilities' mean.")]
Most = Annotated[int | None, Option("--max-new-tokens", help="Instead of what the file says, else 64.", min=1)]
NEW_TOKENS = 64
AsJson = Annotated[bool, Option("--json", help="One JSON object: figures by file.")]


def evaluate(  # noqa: PLR0913, PLR0917 - a command's options are its arguments
    data: Data, files: Files, model: o.Model, target: o.Target = "target", metrics: Metrics = "bleu,chrf,rouge_l",
    ensemble: Together = None, max_new_tokens: Most = None, threads: o.Threads = None, device: o.Device = "auto",
    revision: o.Revision = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Judge prompt files on held-out rows, as they would be served."""
    try:
        named = metrics.split(",")
        unknown = [name for name in named if name not in METRICS]
        if unknown:
            raise ValueError(f"--metrics: {', '.join(unknown)} is none of {', '.join(METRICS)}")
        read_files = [parse(path.read_bytes()) for path in files]
        base = load_base(model, device, threads, revision)
        found = {
            str(path): _judged(base, file, _rows(data, file, target), named, max_new_tokens).named
            for path, file in zip(files, read_files, strict=True)
        }
        if ensemble is not None:
            found[f"all, by {ensemble}"] = _together(base, read_files, data, target, ensemble)
    except REFUSED as error:
        typer.echo(f"softprompt eval: {of_system(error) if isinstance(error, OSError) else error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show(found)


def _rows(data: Path, file: PromptFile, target: str) -> list[Example]:
    metadata = file.metadata
    fields = Template.parse(metadata.template, metadata.kind, metadata.length).fields
    rows = read(data, fields, target)
    if metadata.labels is not None:
        check(rows, metadata.labels)
    return rows


def _judged(
    base: FrozenBase, file: PromptFile, rows: list[Example], metrics: list[str], max_new_tokens: int | None
) -> Figures:
    """As the server answers: with the file's own defaults where nothing else is asked."""
    metadata = file.metadata
    most = max_new_tokens or int(metadata.defaults.get("max_new_tokens", NEW_TOKENS))
    speaking = Speaking(most, base.tokenizer.decode, tuple(metadata.defaults.get("stop", ())))
    reading = Reading(encoder_of(base, file, metadata.labels), base.context)
    return judge(rows, reading, metrics, speaking)(base, soft_of(base, file))


def _encoded(base: FrozenBase, file: PromptFile, rows: list[Example]) -> list[Encoded]:
    return encode(rows, encoder_of(base, file, file.metadata.labels), base.context)


def _together(base: FrozenBase, files: list[PromptFile], data: Path, target: str, how: How) -> dict[str, float]:
    """Accuracy of all files' decision; they need the same labels in the same order, and one kind."""
    if len({file.metadata.labels for file in files}) > 1 or files[0].metadata.labels is None:
        raise ValueError("--ensemble: the files need the same labels")
    if len({file.prompt.kind for file in files}) > 1:
        raise ValueError("--ensemble: the files need one kind")
    prompts = [_encoded(base, file, _rows(data, file, target)) for file in files]
    found = likelihoods(base, [soft_of(base, file) for file in files], prompts)
    hits = sum(heard([member[row] for member in found], how) == one.right for row, one in enumerate(prompts[0]))
    return {"accuracy": hits / len(prompts[0])}


def _show(found: dict[str, dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    table = Table()
    for name in ("", *names):
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name))
    for file, figures in found.items():
        table.add_row(file, *(f"{figures[name]:.4g}" if name in figures else "" for name in names))
    console: Any = Console()
    console.print(table)
