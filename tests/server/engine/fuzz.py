"""Random traces without end: `python -m tests.server.engine.fuzz --minutes 10 --seed 1`, or `make fuzz-engine`.

Family after family, one trace after the other; every answer is judged against transformers alone. Prints its counts;
on a difference the seed, and the smallest trace found that still has one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from server.engine.model import BaseModel
from tests import models
from tests.server.engine.gpu.bases import base_on_tape
from tests.server.engine.playing import Report, Stage
from tests.server.engine.traces import Trace, draw

REQUESTS, TRACES = 40, 10
"""Requests of a trace, and traces before the next family's turn."""
TRIES = 60
"""Runs that making a trace smaller may take."""


def stage(folder: Path, family: str, *, gpu: bool = False) -> Stage:
    """`gpu`: the crowd runs a GPU's way, in Triton's interpreter and on a tape."""
    models.save(folder, family)
    reference: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    crowd, solo = (BaseModel.load(folder, device="cpu", dtype="float32") for _ in range(2))
    crowd = base_on_tape(folder)[0] if gpu else crowd
    return Stage(crowd, solo, reference)


def smallest(trace: Trace, fails: Callable[[Trace], bool], tries: int = TRIES) -> Trace:
    """Leaves out ever smaller pieces of the trace as long as it fails without them."""
    size = max(1, len(trace.moments) // 2)
    while tries > 0:
        at = 0
        while at < len(trace.moments) and tries > 0:
            less = replace(trace, moments=trace.moments[:at] + trace.moments[at + size :])
            tries -= 1
            if less.moments and fails(less):
                trace = less
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return trace


def told(family: str, trace: Trace, report: Report, *, free: bool) -> str:
    """Everything that is needed to see it again."""
    lines = [f"family {family}, seed {trace.seed}, free {free}, faulty {trace.faulty}, {trace.settings}"]
    lines += [f"  request {number}: {what}" for number, what in report.wrong[:20]]
    lines += [f"  after {moment.after}: {moment.action}" for moment in trace.moments]
    return "\n".join(lines) + "\n"


def explain(scene: Stage, family: str, trace: Trace, report: Report, *, free: bool) -> str:
    """The trace made smaller; a free one may not fail again, then it is told as it was."""
    small = smallest(trace, lambda less: bool(scene.run(less, free=free).wrong))
    again = scene.run(small, free=free)
    return told(family, small, again, free=free) if again.wrong else told(family, trace, report, free=free)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpu", action="store_true", help="a GPU's way, on a CPU: some hundred times slower")
    parser.add_argument("--deterministic", action="store_true", help="every trace, else one of ten")
    parser.add_argument("--faulty", action="store_true", help="every trace, else one of three")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of a trace")
    parser.add_argument("--family", choices=models.WIDE, action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    counts: Counter[str] = Counter()
    families, turn, seed = options.family or models.WIDE, 0, options.seed
    ends = time.monotonic() + 60 * options.minutes
    while time.monotonic() < ends:
        family = families[turn % len(families)]
        turn += 1
        with tempfile.TemporaryDirectory() as folder:
            scene = stage(Path(folder), family, gpu=options.gpu)
        for _ in range(TRACES):
            if time.monotonic() >= ends:
                break
            trace, free = draw(seed, options.requests, scene.workshop), bool(seed % 2)
            settings = replace(trace.settings, deterministic=trace.settings.deterministic or options.deterministic)
            trace = replace(trace, settings=settings, faulty=options.faulty or seed % 3 == 0)
            report = scene.run(trace, free=free)
            counts += report.counts
            counts["traces"] += 1
            for number, index, distance in report.ties:
                sys.stdout.write(f"tie: {family}, seed {seed}, request {number}, id {index}: {distance:.2g}\n")
            if report.wrong:
                sys.stdout.write(explain(scene, family, trace, report, free=free) + json.dumps(counts) + "\n")
                sys.exit(1)
            seed += 1
    sys.stdout.write(json.dumps(dict(sorted(counts.items()))) + "\n")


if __name__ == "__main__":
    main()
