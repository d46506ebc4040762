"""What one process is to measure, as it is told on its command line, and how a process is started.

One process for each: peers set threads, register attention functions and keep memory. Knows no part.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workload import Shape, Workload

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "benchmarks"
PRELOAD = "LD_PRELOAD"
LAST_WORDS = 4000
"""Characters of what a process said before it failed: some log to stdout."""


@dataclass(frozen=True, slots=True)
class Order:
    """`plan` holds the fields of the part's own plan; `threads` are torch's."""

    part: str
    checkpoint: str
    workload: Workload
    threads: int
    plan: dict[str, Any]

    @classmethod
    def of(cls, given: argparse.Namespace, workload: Workload, plan: Any) -> "Order":
        """For the part that was chosen; writes the base if there is none. `plan`: a dataclass."""
        return cls(given.part, str(workload.shape.write(BUILD)), workload, given.threads, asdict(plan))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Order":
        given: dict[str, Any] = json.loads(text)
        workload = given.pop("workload")
        shape = Shape(**workload.pop("shape"))
        return cls(**given, workload=Workload(shape=shape, **workload))


@dataclass(frozen=True, slots=True)
class Launch:
    """`python -m module argument`, with `variables` and libraries to `preload` besides the inherited environment."""

    label: str
    argument: str
    module: str = "benchmarks.measure"
    python: str = sys.executable
    preload: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """The JSON object of its last line on stdout. Raises CalledProcessError where it failed."""
        libraries = [*self.preload, *filter(None, [os.environ.get(PRELOAD)])]
        preloading = {PRELOAD: ":".join(libraries)} if libraries else {}
        done = subprocess.run(
            [self.python, "-m", self.module, self.argument],
            stdout=subprocess.PIPE,
            check=False,
            text=True,
            cwd=ROOT,
            env={**os.environ, **self.variables, **preloading},
        )
        if done.returncode:
            sys.stderr.write(done.stdout[-LAST_WORDS:])
            done.check_returncode()
        found: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
        return {"label": self.label, "preload": [Path(library).name for library in self.preload], **found}
