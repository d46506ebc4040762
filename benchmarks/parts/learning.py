"""Prompt tuning here and in PEFT: the same rows, batches, rate and steps; what both reach, and how long they take.

On SNIPS, CLINC150 (ten domains) and E2E, with the embedded base in float32. Needs the data sets (README), not the
workload.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.order import Launch, Order
from benchmarks.report import Chart, charted, gathered
from benchmarks.workload import workload
from demos.recipes import RECIPES, Recipe
from server.config import EMBEDDED_BASE
from tuning.base import FrozenBase
from tuning.batches import Batches
from tuning.encoding import Encoded
from tuning.examples import Example
from tuning.learn import Settings, Tuning, hold_out
from tuning.loading import load
from tuning.objective import Objective
from tuning.plan import Plan as Told
from tuning.soft import Soft
from tuning.splits import split

REPEATS = 1
SIDES = ("PEFT", "here, PEFT's loss", "here, as by default")
TASKS = ("intent", "domain", "restaurant")
LENGTH, RATE = 20, 1.0
TEST = 500
"""Rows that are judged, drawn from the test part; distinct inputs of free text."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One side on one task."""

    side: str
    task: str
    data: str
    steps: int
    batch_size: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder with all data sets")
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of every run")
    parser.add_argument("--batch-size", type=int, default=32, help="rows a step")


def launches(given: argparse.Namespace, turn: int) -> list[Launch]:
    """A process for each task and side; every second repeat the other way round. Raises SystemExit without the data."""
    if not given.data.is_dir():
        raise SystemExit(f"{given.data}: no data sets here; --data says where they are")
    steps = 3 if given.tiny else given.steps
    data = str(given.data.absolute())
    plans = [Plan(side, task, data, steps, given.batch_size) for task in TASKS for side in SIDES]
    chosen = workload(tiny=given.tiny)
    found = [Launch(f"{one.task}, {one.side}", Order.of(given, chosen, one).to_json()) for one in plans]
    return found if turn % 2 == 0 else found[::-1]


def measure(order: Order) -> dict[str, Any]:
    """Seconds of learning alone, evaluations not counted, and figures on test rows by one judge for both sides."""
    plan = Plan(**order.plan)
    recipe, base = RECIPES[plan.task], load(EMBEDDED_BASE)
    train, test = _rows(plan, recipe)
    goal: Objective = "labels" if recipe.labels and plan.side == SIDES[2] else "lm"
    told = Told(goal, plan.steps, plan.batch_size, RATE, warmup=20, evaluate_every=plan.steps, seed=0)
    template = f"{{{recipe.source}}}\n" + ("It is" if recipe.labels else "In words:")
    settings = Settings(
        template, told, labels=recipe.labels, length=LENGTH, metric=recipe.metrics[0], max_new_tokens=48
    )
    run = Tuning(base, settings, *hold_out(train))
    if plan.side == SIDES[0]:
        rows, seconds = _by_peft(run, told)
        figures = run.judge(test, recipe.metrics)(base, Soft(rows)).named
    else:
        seconds = _learnt(run)
        figures = run.measure(test, recipe.metrics)
    return {"task": plan.task, "side": plan.side, "seconds": seconds, "figures": figures, "metric": recipe.metrics[0]}


def _rows(plan: Plan, recipe: Recipe) -> tuple[list[Example], list[Example]]:
    parts = split(Path(plan.data), recipe.data_set)
    train, test = ([recipe.example(row) for row in part] for part in (parts.train, parts.test))
    return train, random.Random(0).sample(test, min(TEST, len(test)))


def _learnt(run: Tuning) -> float:
    """Our own loop, its evaluations taken out of the time."""
    spent = 0.0
    evaluate = run.run.evaluation

    def timed(base: FrozenBase, soft: Soft) -> Any:
        nonlocal spent
        began = time.perf_counter()
        found = evaluate(base, soft)
        spent += time.perf_counter() - began
        return found

    run.run.evaluation = timed
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in run.events(Path(folder) / "checkpoint"):
            pass
    return time.perf_counter() - began - spent


def _by_peft(run: Tuning, plan: Told) -> tuple[torch.Tensor, float]:
    """PEFT's model, its rows begun where ours begin, its own loss; batches, optimiser and schedule as ours."""
    from peft import PromptTuningConfig, TaskType, get_peft_model  # noqa: PLC0415 - a peer
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - beside the peer

    first = run.soft.rows.detach()
    plain: Any = AutoModelForCausalLM.from_pretrained(EMBEDDED_BASE, dtype=torch.float32)
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=len(first))
    model: Any = get_peft_model(plain, config)
    rows = model.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        rows.copy_(first)
    rate = RATE * float(first.square().mean().sqrt())  # ours counts in units of the first rows
    optimizer = torch.optim.Adam([rows], lr=rate)
    began = time.perf_counter()
    for step, batch in enumerate(_batches(run.run.examples, plan)):
        for group in optimizer.param_groups:
            group["lr"] = rate * plan.scale(step)
        ids, mask, labels = _padded(batch, len(first))
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()
    return rows.detach().clone(), time.perf_counter() - began


def _batches(examples: Sequence[Encoded], plan: Told) -> Iterator[list[Encoded]]:
    found = Batches([one.width for one in examples], plan.batch_size, plan.seed)
    return ([examples[index] for index in found[step]] for step in range(plan.steps))


def _padded(batch: Sequence[Encoded], length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts with their right answers, filled up on the right; only answers count. PEFT puts the rows in front."""
    texts = [(one.prompt[length:], one.answers[one.right]) for one in batch]
    width = max(len(prompt) + len(answer) for prompt, answer in texts)
    ids, mask, labels = (torch.full((len(batch), width), value) for value in (0, 0, -100))
    for row, (prompt, answer) in enumerate(texts):
        whole = torch.tensor([*prompt, *answer])
        ids[row, : len(whole)], mask[row, : len(whole)] = whole, 1
        labels[row, len(prompt) : len(whole)] = whole[len(prompt) :]
    return ids, mask, labels


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """What each side reaches, and its seconds beside PEFT's."""
    scored = gathered((run["side"], run["task"], run["figures"][run["metric"]]) for run in runs)
    seconds = gathered((run["side"], run["task"], run["seconds"]) for run in runs)
    return [
        charted("accuracy, or BLEU (restaurant), on test rows", "task", scored),
        charted(
            "seconds of learning", "task", seconds, best=min, ratio="of PEFT's",
            reference=lambda _, column: (SIDES[0], column),
        ),
    ]  # fmt: skip


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What else was judged."""
    return {f"{run['task']}, {run['side']}": {k: round(v, 4) for k, v in run["figures"].items()} for run in runs}
