"""`softprompt doctor`: what this machine and this store would do, without starting a server.

Every line is a check with its answer; the exit code is 1 when one of them failed.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import transformers
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from typer import Option

from prompt_store.base import SUMS, damaged
from prompt_store.errors import BaseDamaged, PromptError, StoreError
from prompt_store.prompt import check_fits
from prompt_store.store import Store
from prompt_store.task import Task
from server.app import load_base
from server.config import EMBEDDED_BASE, Settings, unknown_variables
from server.engine.checkpoint import BadBase, locate
from server.engine.model import BaseModel
from server.lookup import computed_in

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """`good` None: a fact, not a check."""

    what: str
    answer: str
    good: bool | None = None


def doctor(
    model: Annotated[str | None, Option(help="Model directory or Hub id; the embedded base if left out.")] = None,
    store: Annotated[str | None, Option(help="Directory of the store. Default .store")] = None,
    verify: Annotated[bool, Option("--verify", help="Read the whole base and every current prompt file")] = False,
) -> None:
    """Check the machine, the settings, the base and the store."""
    given = {name: value for name, value in (("model", model), ("store", store)) if value is not None}
    table = Table(show_header=False, box=None)
    failed = False
    for finding in _findings(given, verify=verify):
        mark = {None: "", True: "ok", False: "FAILED"}[finding.good]
        table.add_row(mark, finding.what, finding.answer)
        failed = failed or finding.good is False
    Console().print(table)
    raise typer.Exit(int(failed))


def _findings(given: dict[str, str], *, verify: bool) -> Iterator[Finding]:
    yield Finding("machine", f"{platform.machine()}, {os.cpu_count()} CPUs, CUDA {torch.cuda.is_available()}")
    yield Finding(
        "python, torch, transformers", f"{platform.python_version()}, {torch.__version__}, {transformers.__version__}"
    )
    unknown = unknown_variables()
    yield Finding("variables", f"unknown: {', '.join(unknown)}" if unknown else "all known", not unknown)
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # model and store are strings
    except ValidationError as error:
        yield Finding("settings", f"{error.error_count()} wrong", good=False)
        return
    base, finding = _base(settings)
    yield finding
    if base is not None:
        yield Finding("weights", f"8 bits in {base.packed} linear layers" if base.int8 else "as the dtype")
        yield Finding("native kernels", base.speedup)
    if verify and base is not None:
        yield _whole(settings)
    yield from _store(settings, base, verify=verify)


def _base(settings: Settings) -> tuple[BaseModel | None, Finding]:
    try:
        base, _ = load_base(settings)
    except (BadBase, BaseDamaged, OSError, ValueError) as error:
        return None, Finding("base", str(error), good=False)
    where = f"{base.base.name}, {str(base.dtype).removeprefix('torch.')} on {base.device}"
    return base, Finding("base", f"{where}, fingerprint {base.base.fingerprint}", good=True)


def _whole(settings: Settings) -> Finding:
    """Every byte of the base, where its sums were recorded."""
    folder = EMBEDDED_BASE if settings.model is None else locate(settings.model, settings.revision)
    found = damaged(folder)
    if found is None:
        return Finding("base, whole files", f"no {SUMS} beside the weights to compare with")
    return Finding("base, whole files", f"damaged: {', '.join(found)}" if found else f"as {SUMS} says", not found)


def _store(settings: Settings, base: BaseModel | None, *, verify: bool) -> Iterator[Finding]:
    if "://" not in settings.store and not Path(settings.store).is_dir():
        yield Finding("store", f"{settings.store} is not there yet")
        return
    try:
        store = Store.open(settings.store)
        tasks = list(_tasks(store))
    except (StoreError, OSError, ValueError) as error:
        yield Finding("store", str(error), good=False)
        return
    yield Finding("store", f"{settings.store}, {len(tasks)} tasks", good=True)
    if verify and base is not None:
        for task in tasks:
            yield _verified(store, task, base, settings)


def _tasks(store: Store) -> Iterator[Task]:
    after, more = None, True
    while more:
        page, more = store.list(limit=PAGE, after=after)
        yield from page
        after = page[-1].name if page else None


def _verified(store: Store, task: Task, base: BaseModel, settings: Settings) -> Finding:
    try:
        file = store.load(task)
        named = check_fits(file, base.base, max_norm=settings.max_norm, dtype=computed_in(base))
    except PromptError as error:
        return Finding(task.name, f"version {task.version} does not fit: {error.message}", good=False)
    except StoreError as error:
        return Finding(task.name, f"version {task.version}: {error}", good=False)
    return Finding(
        task.name, f"version {task.version}, {'learnt on this base' if named else 'base not named'}", good=True
    )
