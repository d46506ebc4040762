"""`softprompt tune`: learn a task from a data file, write one prompt file, perhaps publish it.

Translates options to `tuning`'s arguments and its events to a terminal; knows nothing of how learning works.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import torch
import typer
from typer import Argument, Option

from cli.client import Url, call
from cli.watching import figures, watch
from prompt_store.errors import BaseDamaged, PromptError
from prompt_store.prompt import PromptFile
from prompt_store.task import is_task_id
from prompt_store.template import PART, Template
from server.engine.checkpoint import BadBase, locate, name_of
from server.engine.model import BaseModel
from server.tokenizer import Tokenizer
from tuning.base import FrozenBase
from tuning.checkpoint import CheckpointError
from tuning.examples import DataError, Example, read
from tuning.initial import Init
from tuning.labels import find
from tuning.learn import Settings, Tuning, hold_out
from tuning.methods import METHODS, Options
from tuning.metrics import METRICS
from tuning.objective import Objective
from tuning.p_tuning import Encoder
from tuning.plan import DivergedError, Plan, Precision

DEFAULT_LENGTH = 20
CHECKPOINT = ".checkpoint.safetensors"
REPORT = ".report.json"


Train = Annotated[Path, Argument(help="Rows to learn from: .jsonl or .csv, fields by name.", exists=True)]
Model = Annotated[str, Option(help="The frozen base: a directory or a Hub id.")]
Revision = Annotated[str | None, Option(help="Revision of a Hub id.")]
TemplateText = Annotated[str, Option("--template", help=r"Text with {fields} and {soft:n}; \n is a line feed.")]
Out = Annotated[Path, Option(help="The prompt file to write; checkpoint and report stand beside it.")]
Eval = Annotated[Path | None, Option("--eval", help="Held-out rows; without it a tenth of the inputs.", exists=True)]
Target = Annotated[str, Option(help="The field that holds the answer.")]
Delimiter = Annotated[str, Option("--target-delimiter", help="Stands between prompt and answer.")]
Method = Annotated[
    Literal["prompt_tuning", "p_tuning", "prefix_tuning", "llama_adapter"],
    Option(help="How to learn; see docs/tune.md."),
]
EncoderName = Annotated[Encoder, Option(help="What p_tuning puts rows through while learning.")]
Direct = Annotated[bool, Option("--direct", help="prefix_tuning without an MLP in front.")]
Labels = Annotated[str, Option(help="auto, none, or the closed set of answers: a,b,c.")]
Aim = Annotated[Objective | None, Option(help="labels: choose among them; lm: write the answer. By the labels.")]
Length = Annotated[int | None, Option(help="Pseudo-tokens; the template's slots say it where it has any.", min=1)]
Start = Annotated[Init | None, Option(help="First rows: labels where there are any, else vocabulary.")]
StartText = Annotated[str, Option(help="The text that --init text starts from.")]
Steps = Annotated[int, Option(help="Optimiser steps at most.", min=1)]
BatchSize = Annotated[int, Option(help="Rows a step.", min=1)]
Rate = Annotated[
    float | None, Option(help="Adam's step, in units of where learning begins. By the method.", min=1e-9, max=1e6)
]
Warmup = Annotated[int, Option(help="Steps until the full learning rate; afterwards it falls to zero.", min=0)]
EvalEvery = Annotated[int, Option(help="Steps between evaluations.", min=1)]
Patience = Annotated[int, Option(help="Evaluations without a better one before stopping.", min=1)]
Products = Annotated[Precision, Option("--precision", help="Of the matrix products while learning.")]
Metric = Annotated[str | None, Option(help="What to keep the best of: " + ", ".join(METRICS) + ".")]
NewTokens = Annotated[int, Option("--max-new-tokens", help="Longest answer when free text is evaluated.", min=1)]
Description = Annotated[str | None, Option(help="A sentence that goes into the file.")]
Seed = Annotated[int, Option(help="The same seed gives the same file on one machine.", min=0)]
Threads = Annotated[int | None, Option(help="CPU threads.", min=1)]
Device = Annotated[str, Option(help="auto, cpu or cuda.")]
SaveSeconds = Annotated[float, Option(help="Seconds between checkpoints.", min=0)]
Resume = Annotated[bool, Option("--resume", help="Go on from the checkpoint beside --out, where there is one.")]
AsJson = Annotated[bool, Option("--json", help="Events as lines of JSON on standard output.")]
Push = Annotated[str | None, Option(help="Publish the file as this task.")]


def tune(  # noqa: PLR0913, PLR0917 - a command's options are its arguments
    train: Train, model: Model, template: TemplateText, out: Out,
    eval_: Eval = None, target: Target = "target", target_delimiter: Delimiter = " ", labels: Labels = "auto",
    method: Method = "prompt_tuning", encoder: EncoderName = "mlp", direct: Direct = False,
    objective: Aim = None, length: Length = None,
    init: Start = None, init_text: StartText = "", steps: Steps = 1000, batch_size: BatchSize = 32,
    learning_rate: Rate = None, warmup: Warmup = 50, eval_every: EvalEvery = 100, patience: Patience = 10,
    precision: Products = "float32",
    metric: Metric = None, max_new_tokens: NewTokens = 64, description: Description = None, seed: Seed = 0,
    threads: Threads = None, device: Device = "auto", revision: Revision = None, resume: Resume = False,
    save_seconds: SaveSeconds = 60.0,
    as_json: AsJson = False, push: Push = None, url: Url = None,
) -> None:  # fmt: skip
    """Learn a task's soft prompt on a frozen base and write one prompt file."""
    template = template.replace("\\n", "\n")
    try:
        _check_ways_out(out, push, url)
        rows, held_out = _data(train, eval_, template, target)
        found = find([*rows, *held_out], labels)
        goal, rate = _objective(objective, found), learning_rate or METHODS[method].rate
        begin = Options(init or ("labels" if found else "vocabulary"), init_text, encoder, reparametrised=not direct)
        settings = Settings(
            template, Plan(goal, steps, batch_size, rate, warmup, eval_every, patience, seed, precision),
            method, found, target_delimiter, _length(template, length), begin, _metric(metric, found), max_new_tokens,
            description, {} if found else {"max_new_tokens": max_new_tokens},
        )  # fmt: skip
        tuning = Tuning(load_base(model, device, threads, revision), settings, rows, held_out)
        watch(tuning.events(out.with_suffix(CHECKPOINT), resume, save_seconds), as_json)
    except (DataError, BadBase, BaseDamaged, CheckpointError, DivergedError, PromptError, OSError, ValueError) as error:
        typer.echo(f"softprompt tune: {error}", err=True)
        raise typer.Exit(2) from None
    file = tuning.prompt_file()
    write(out, file, tuning.report())
    told = {"event": "written", "file": str(out), "digest": file.digest, **tuning.best_figures}
    typer.echo(json.dumps(told) if as_json else f"{out} is written: {figures(tuning.best_figures)}")
    if push is not None:
        _publish(push, out, file, url)


def _publish(task: str, out: Path, file: PromptFile, url: str | None) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    try:
        answer = call("PUT", f"/tasks/{quote(task, safe='')}", url=url, content=file.data, headers=headers)
    except typer.Exit:
        typer.echo(f"{out} is safe: softprompt push {task} {out} publishes it", err=True)
        raise
    typer.echo(f"published as {task}, version {answer.json()['version']}", err=True)


def _check_ways_out(out: Path, push: str | None, url: str | None) -> None:
    """What would lose a finished run is said before it begins."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise ValueError(f"--out {out}: a file cannot be written there")
    if push is not None and not is_task_id(push):
        raise ValueError("--push: no task can have this name")
    if push is not None:
        call("GET", "/readyz", url=url)


def load_base(model: str, device: str, threads: int | None, revision: str | None) -> FrozenBase:
    """The base in float32, as it is served. Raises BadBase, BaseDamaged and, without an end id, ValueError."""
    if threads is not None:
        torch.set_num_threads(threads)
    path = locate(model, revision)
    loaded = BaseModel.load(path, name=name_of(model), device=device, dtype="float32", packed=False)
    return FrozenBase(loaded.model, Tokenizer.load(path), loaded.base, sorted(loaded.eos_ids))


def write(out: Path, file: PromptFile, report: Mapping[str, Any]) -> None:
    """The prompt file, and beside it the report with its curve."""
    out.write_bytes(file.data)
    out.with_suffix(REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _data(train: Path, eval_: Path | None, template: str, target: str) -> tuple[list[Example], list[Example]]:
    fields = Template.parse(template, "embeddings", _length(template, None)).fields
    rows = read(train, fields, target)
    return hold_out(rows) if eval_ is None else (rows, read(eval_, fields, target))


def _length(template: str, wanted: int | None) -> int:
    slots = sum(int(match["soft"]) for match in PART.finditer(template) if match["soft"])
    if slots and wanted not in {None, slots}:
        raise ValueError(f"--length {wanted}, but the template's slots add up to {slots}")
    return slots or wanted or DEFAULT_LENGTH


def _objective(wanted: Objective | None, labels: tuple[str, ...] | None) -> Objective:
    if wanted is None:
        return "lm" if labels is None else "labels"
    if wanted == "labels" and labels is None:
        raise ValueError("--objective labels needs labels; see --labels")
    return wanted


def _metric(wanted: str | None, labels: tuple[str, ...] | None) -> str:
    if wanted is not None and wanted not in METRICS:
        raise ValueError(f"--metric must be one of {', '.join(METRICS)}")
    if labels is not None and wanted not in {None, "accuracy"}:
        raise ValueError("a task with labels is measured by accuracy; see --labels none")
    return wanted or ("bleu" if labels is None else "accuracy")
