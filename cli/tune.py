"""`softprompt tune`: learn a task from a data file, write one prompt file and its report, perhaps publish it.

Translates options to `tuning`'s arguments and its events to a terminal; knows nothing of how learning works.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import typer

from cli import options as o
from cli.client import Url, asking, of_system
from cli.loading import load_base
from cli.notes import after, before, stopped_as
from cli.places import PAGE, REPORT, beside, check, checkpoint, kept_as, ways, write
from cli.report import write_page
from cli.stopping import Stopping
from cli.watching import compared, dumps, figures, watch
from prompt_store.durable import replace_file
from prompt_store.errors import BaseDamaged, PromptError
from prompt_store.prompt import PromptFile
from prompt_store.task import is_task_id
from prompt_store.template import Template
from server.engine.checkpoint import BadBase
from tuning.base import FrozenBase, Interrupted
from tuning.checkpoint import CheckpointError
from tuning.compare import ALL, AnyMethod, Comparison, Result
from tuning.defaults import init_for, length_for, metric_for, objective_for
from tuning.examples import DataError, Example, read
from tuning.hard import Budget
from tuning.labels import find, notes
from tuning.learn import Settings, hold_out
from tuning.methods import Options, lacking
from tuning.plan import DivergedError, Plan
from tuning.text import TextSettings

BEGIN_ANEW = ": without --resume, or with another --out, it begins anew"
LONGEST_NAME = 150
"""Bytes: what stands beside it has a longer one, and no file system takes more than 255."""
REFUSED = (DataError, BadBase, BaseDamaged, CheckpointError, DivergedError, PromptError, OSError, ValueError)


def tune(  # noqa: PLR0913, PLR0917 - a command's options are its arguments
    train: o.Train, model: o.Model, template: o.TemplateText, out: o.Out,
    eval_: o.Eval = None, target: o.Target = "target", target_delimiter: o.Delimiter = " ", labels: o.Labels = "auto",
    method: o.Methods = "prompt_tuning", lengths: o.Lengths = None, seeds: o.Seeds = 1,
    encoder: o.EncoderName = "mlp", mlp: o.Through = False, gate_per_layer: o.OneGate = False,
    rank: o.Rank = 8, units: o.Units = 8,
    instructions: o.Instructions = "", shots: o.Shots = 4, draws: o.Draws = 12, budget: o.Scored = 20_000,
    hotflip: o.Flip = False, objective: o.Aim = None, length: o.Length = None,
    init: o.Start = None, init_text: o.StartText = "", steps: o.Steps = 1000, batch_size: o.BatchSize = 32,
    learning_rate: o.Rate = None, warmup: o.Warmup = 50, eval_every: o.EvalEvery = 100, patience: o.Patience = 10,
    precision: o.Products = "float32", metric: o.Metric = None, max_new_tokens: o.NewTokens = 64,
    description: o.Description = None, seed: o.Seed = 0, threads: o.Threads = None, device: o.Device = "auto",
    revision: o.Revision = None, resume: o.Resume = False, save_seconds: o.SaveSeconds = 60.0,
    keep_all: o.KeepAll = False, as_json: o.AsJson = False, push: o.Push = None, url: Url = None,
) -> None:  # fmt: skip
    """Learn a task on a frozen base, by one method or several; write the best prompt file and a report."""
    template = template.replace("\\n", "\n")
    try:
        _check_ways_out(out, [one for one in (train, eval_) if one is not None], push, url)
        rows, held_out = _data(train, eval_, template, target)
        found = find([*rows, *held_out], labels)
        begin = Options(init_for(found, init), init_text, encoder, mlp, gate_per_layer, rank, units)
        aim = objective_for(found, objective)
        plan = Plan(aim, steps, batch_size, 0.0, warmup, eval_every, patience, seed, precision)
        settings = Settings(
            template, plan, "prompt_tuning", found, target_delimiter, length_for(template, length), begin,
            metric_for(found, metric), max_new_tokens, description, {} if found else {"max_new_tokens": max_new_tokens},
        )  # fmt: skip
        text = TextSettings(instructions, shots, draws, Budget(budget), hotflip)
        stopping = Stopping()
        fresh = partial(load_base, model, device, threads, revision, stopping)
        base, several = fresh(), (_lengths(lengths, settings.length), range(seed, seed + seeds))
        run = Comparison(base, fresh, settings, text, _methods(method, base), *several, rows, held_out, learning_rate)
        check(ways(out, run, keep_all))
        _tell(*notes(rows, held_out, labels, found), *before(out, run, resume, instructions))
        with stopping:
            watch(run.events(partial(checkpoint, out), resume, save_seconds), as_json, stopping.unheard)
            stopping.done()
            best = run.chosen()
            compared(run.table(), settings.metric, as_json)
            _written(out, run, best, as_json, keep_all)
    except Interrupted as stopped:
        _tell(stopped_as(out, run, stopped.unsaved))
        raise typer.Exit(128 + stopping.number) from None
    except REFUSED as error:
        said = of_system(error) if isinstance(error, OSError) else error
        _tell(f"{said}{BEGIN_ANEW if isinstance(error, CheckpointError) else ''}")
        raise typer.Exit(2) from None
    if push is not None and best.file is not None:
        _publish(push, out, best.file, url)


def _tell(*said: str | None) -> None:
    for one in filter(None, said):
        typer.echo(f"softprompt tune: {one}", err=True)


def _written(out: Path, run: Comparison, best: Result, as_json: bool, keep_all: bool) -> None:
    """The best file, or all, the report and the page, and one line that says so."""
    report = run.report()
    try:
        write(out, best.file, report)
        for one in run.results if keep_all else ():
            if one.file is not None:
                replace_file(kept_as(out, one.cell).resolve(), one.file.data)
    except OSError as error:
        raise ValueError(
            f"{out} cannot be written: {error.strerror}; with room there, the same command with --resume goes on from"
            " the last checkpoint that could be"
        ) from error
    _tell(*(f"{cell.name} diverged: it is not in the table" for cell in run.diverged), *after(run, best))
    page = write_page(beside(out, PAGE), run, report)
    digest = None if best.file is None else best.file.digest
    kept = [str(path) for path in (out if best.file is not None else None, page) if path is not None]
    told = {"event": "written", "file": kept[0] if best.file is not None else None, "digest": digest, **best.figures}
    said = f"{best.cell.method}: {figures(best.figures)}; written: {', '.join([*kept, str(beside(out, REPORT))])}"
    typer.echo(dumps(told) if as_json else said)
    if best.file is None:
        typer.echo(f"{best.cell.method} is a yardstick: there is no prompt file to serve", err=True)


def _methods(told: str, base: FrozenBase) -> list[AnyMethod]:
    """Of `all` those that this base can; of methods by name each must be one of them."""
    names = list(dict.fromkeys(ALL if told == "all" else told.split(",")))
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise ValueError(f"--method: {', '.join(unknown)} is none of all, {', '.join(ALL)}")
    reasons = {name: reason for name in names if (reason := lacking(base, name)) is not None}
    if reasons and told != "all":
        raise ValueError("; ".join(reasons.values()))
    for reason in reasons.values():
        typer.echo(f"left out: {reason}", err=True)
    return [name for name in names if name not in reasons]  # type: ignore[misc]  # each is one


def _lengths(told: str | None, one: int) -> list[int]:
    if told is None:
        return [one]
    parts = told.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError("--lengths: numbers with commas between, each at least 1")
    return list(dict.fromkeys(map(int, parts)))


def _publish(task: str, out: Path, file: PromptFile, url: str | None) -> None:
    try:
        with asking(url) as client:
            version = client.tasks.publish(task, file.data).task["version"]
    except typer.Exit:
        typer.echo(f"{out} is safe: softprompt push {task} {out} publishes it", err=True)
        raise
    typer.echo(f"published as {task}, version {version}", err=True)


def _check_ways_out(out: Path, data: Sequence[Path], push: str | None, url: str | None) -> None:
    """What would lose a finished run is said before it begins."""
    out.parent.mkdir(parents=True, exist_ok=True)
    check([out, *(beside(out, suffix) for suffix in (REPORT, PAGE))], data)
    if len(os.fsencode(out.name)) > LONGEST_NAME:
        raise ValueError(f"--out: a name of at most {LONGEST_NAME} bytes")
    if push is not None and not is_task_id(push):
        raise ValueError("--push: no task can have this name")
    if push is not None:
        with asking(url) as client:
            client.ready()


def _data(train: Path, eval_: Path | None, template: str, target: str) -> tuple[list[Example], list[Example]]:
    fields = Template.parse(template, "embeddings", length_for(template, None)).fields
    rows = read(train, fields, target)
    return hold_out(rows) if eval_ is None else (rows, read(eval_, fields, target))
