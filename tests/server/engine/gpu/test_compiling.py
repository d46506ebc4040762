"""What Triton's interpreter runs, its compiler takes too: for a GPU that is not here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT

SHARED = {90: 227 * 2**10, 86: 99 * 2**10}
"""Bytes that the programs of a multiprocessor share, at most, by compute capability: H200's, and the least there is."""


@pytest.mark.parametrize("capability", SHARED)
def test_every_kernel_compiles_and_fits(capability: int, tmp_path: Path) -> None:
    """In bfloat16, whose products are made by the matrix units; in a process that interprets nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.server.engine.gpu.compiling", str(capability), "bfloat16"],
        cwd=ROOT,
        env={"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    kernels = {"norm", "gate", "log_sum", "rotate", "write", "attend_one", "join", "attend_run", "attend_beside"}
    assert {one["kernel"] for one in found} == kernels
    assert all(one["binary"] > 1000 and one["shared"] <= SHARED[capability] for one in found), found
    assert all(one["matrix_units"] for one in found if one["kernel"].startswith("attend"))
