"""docs/examples/job.py as docs/jobs.md has it, against a server on the embedded base."""

import os
import subprocess
from pathlib import Path

from tests.checkout import ROOT, text
from tests.e2e.process import serving
from tests.server.jobs.conftest import client_of

PAGE, PIP = Path("docs/jobs.md"), "pip install"
"""The page's first block, but for what the tests have installed already."""


def test_the_example_teaches_a_running_server_a_task(tmp_path: Path) -> None:
    """It prints what happens, and the task answers as it should where it was judged."""
    with serving("--store", "memory://", SOFTPROMPT_JOBS=str(tmp_path / "jobs")) as (process, _):
        commands = [
            line for line in text(PAGE).partition("```sh\n")[2].partition("```")[0].splitlines() if PIP not in line
        ]
        assert len(commands) == 1
        done = subprocess.run(
            ["sh", "-euc", "\n".join(commands)],
            cwd=ROOT,
            env={**os.environ, "SOFTPROMPT_URL": process.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("what time does the shop close: question\n")
        assert "the job runs" in done.stdout
        assert "the task is served: version 1" in done.stdout
        (job,) = client_of(process.url).fine_tuning.jobs.list()
        figures = client_of(process.url).fine_tuning.jobs.checkpoints.list(job.id).data[0].metrics
        assert dict(figures)["valid_accuracy"] > 0.5
