"""Each fuzzer for some seconds: what `make fuzz` does for an hour. One seed is always the same, one is always new."""

import random
import sys
import threading
from itertools import chain

import pytest

from tests.fuzz.__main__ import PARTS, played
from tests.fuzz.cases import cases
from tests.fuzz.subject import Pace

SECONDS = 3.0
"""For each of both seeds."""
PACE = Pace(probe=10.0, lingers=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", PARTS)
def test_a_short_run_finds_nothing(part: str) -> None:
    """Whatever it finds says with which case: `python -m tests.fuzz --only part --case name`."""
    new, go_on = random.getrandbits(32), threading.Event()
    sys.stdout.write(f"{part}: the new seed is {new}\n")
    found = played(part, {}, chain(cases("1", SECONDS, go_on), cases(f"{new}", SECONDS, go_on)), PACE)
    assert not found.violations, found.violations[:5]
    assert found.counts["probes"] > 1, found.counts
    assert sum(number for name, number in found.counts.items() if name.startswith("status 2")) > 5, found.counts
