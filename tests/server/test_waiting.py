"""A thread's patience is set before torch reads it, and only where nobody has said otherwise."""

import os
import subprocess
import sys

import pytest

from server.waiting import SPINS, spin_shortly


def test_a_short_spin_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets one of the two variables decides."""
    monkeypatch.setattr(os, "environ", {})  # what the test leaves behind, other tests' processes would inherit
    spin_shortly()
    assert os.environ["GOMP_SPINCOUNT"] == SPINS
    os.environ["GOMP_SPINCOUNT"] = "7"
    spin_shortly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE"})
    spin_shortly()
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.parametrize("module", ["cli.main", "server.waiting"])
def test_torch_is_not_imported_before_the_spin_is_set(module: str) -> None:
    """libgomp reads its variables once, when it is loaded."""
    look = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
