"""The OpenAPI document against a running server, as schemathesis reads it. `make clients` asks for far more."""

import json
import subprocess
import sys
from pathlib import Path

from clients.schemathesis.run import HERE, VARIABLES, command, judged
from tests.e2e.process import serving

EXAMPLES = 6
"""Good and bad requests to each operation."""


def test_the_document_tells_the_truth(tmp_path: Path) -> None:
    """Its examples are answered by the demo tasks; requests made from it are answered or refused as it says."""
    report = tmp_path / "report.json"
    with serving("--store", "memory://", **{**VARIABLES, "SOFTPROMPT_JOBS": str(tmp_path / "jobs")}) as (process, _):
        more = ("--phases", "examples,fuzzing", "--max-examples", str(EXAMPLES))
        asked = command(Path(sys.executable).parent / "st", process.url, report, *more)
        done = subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False)
    assert report.is_file(), done.stderr
    found = judged(json.loads(report.read_text(encoding="utf-8")))
    assert not found.faults, done.stdout
    assert found.figures["requests"] > 40 * EXAMPLES / 2
