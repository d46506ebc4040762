"""The header parser against the safetensors library: `make fuzz-header` for a fixed number of inputs."""

import resource
import sys
from pathlib import Path
from random import Random

import pytest

from tests.attacks.header.agreement import Tally
from tests.attacks.header.mutations import SEEDS, drawn, mutated
from tests.checkout import text

INPUTS = 15_000
"""Of each source, always the same ones; seconds together."""
MEMORY = 32 * 2**20


def peak() -> int:
    """Bytes that this process has held at most."""
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept if sys.platform == "darwin" else kept * 1024


@pytest.mark.parametrize("source", ["good files", "drawn files", "both, mutated"])
def test_we_and_the_library_read_alike_or_we_refuse(source: str) -> None:
    """No input passes our parser that the library refuses or reads otherwise, none takes long or much memory."""
    draw, tally, before = Random(source), Tally(), peak()
    for number in range(INPUTS):
        good = drawn(draw) if source == "drawn files" or (number % 2 and source != "good files") else SEEDS[number % 8]
        data = good if source == "drawn files" else mutated(good, draw)
        tally.judge(data)
    assert peak() - before < MEMORY
    assert tally.agreed > INPUTS / 50, tally
    assert tally.stricter > INPUTS / 50, tally
    if source != "drawn files":
        assert tally.refused > INPUTS / 2, tally


def test_the_fuzzer_runs_against_the_library_that_is_served_with() -> None:
    """Its own environment has the versions that constraints.txt pins."""
    own = text(Path("tests/attacks/header/requirements.txt")).splitlines()
    pinned = set(text(Path("constraints.txt")).splitlines())
    shared = [line for line in own if line.startswith(("numpy", "safetensors"))]
    assert len(shared) == 2
    assert set(shared) <= pinned
