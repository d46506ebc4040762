"""How long a CPU thread waits awake for its team between two operators. Imports nothing: torch must not be there yet.

libgomp's default is to spin for milliseconds. Where another process wants the same cores, the team then waits for
whoever is off the core: a decode step of 8 took 1,000 ms instead of 20. With a short spin it took 24 on an
idle machine and 52 beside that process (docs/log.md).
"""

import os

SPINS = "2000"


def spin_shortly() -> None:
    """Unless the environment says otherwise. To be called before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
