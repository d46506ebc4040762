"""What `softprompt tune` says beside the work: before it begins, when it was stopped, and what figures do not say.

Knows a comparison and its places; prints nothing.
"""

from collections.abc import Iterator
from math import inf
from pathlib import Path

from cli.places import saved, unfinished
from tuning.compare import Comparison, Result
from tuning.learn import without_slots


def before(out: Path, run: Comparison, resume: bool, instructions: str) -> Iterator[str]:
    """Of a run that is about to begin."""
    if resume and not saved(out, run):
        yield f"--resume: there is no checkpoint of this beside {out}, so it begins anew"
    if not resume and any(unfinished(out, name) for name in run.checkpoints):
        yield f"beside {out} is the checkpoint of a run that did not end: it is begun anew, --resume would go on"
    if "hard" in run.methods and not instructions:
        yield "hard begins with no words, since there are no --instructions"
    if len(run.lengths) > 1 and without_slots(run.settings.template) != run.settings.template:
        yield "with several --lengths all pseudo-tokens stand in front: the template's slots are left out"


def stopped_as(out: Path, run: Comparison, unsaved: str | None) -> str:
    lost = "" if unsaved is None else f" ({unsaved})"
    if not saved(out, run):
        return f"stopped; nothing was kept{lost}"
    if lost:
        return f"stopped; it could not be saved{lost}: the same command with --resume goes on from the last checkpoint"
    return "stopped; the same command with --resume goes on from here"


def after(run: Comparison, best: Result) -> Iterator[str]:
    """What the best run's figures do not say."""
    report = best.report
    if best.cell.method == "hard":
        same = "the instruction that it began with: on held-out rows nothing found was better; "
        yield f"{same if report['began'] == report['best'] else ''}the template is {report['template']!r}"
    if report.get("best_step", 1) == 0:
        yield "no evaluation was better than the one before the first step: what is written has learnt nothing"
    plan = run.settings.plan
    if report.get("steps", inf) < plan.steps:
        yield f"it ended after {report['steps']} steps, {plan.patience} evaluations without a better one (--patience)"
