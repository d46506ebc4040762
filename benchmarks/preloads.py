"""Which libraries make PyTorch on a CPU faster when they are loaded in front of everything: an OpenMP and an allocator.

Knows where pip and Debian put them; starts nothing.
"""

import sys
from pathlib import Path

OPENMP = "libiomp5.so"
"""pip's intel-openmp, in the environment's lib/."""
ALLOCATOR = "*/libtcmalloc_minimal.so.4"
"""Debian's libtcmalloc-minimal4, below /usr/lib."""


def best_libraries(python: str | None = None) -> list[str]:
    """Those that are there: the OpenMP of this environment or of `python`'s, and the allocator."""
    environments = [Path(sys.prefix), *([Path(python).parent.parent] if python else [])]
    teams = [environment / "lib" / OPENMP for environment in environments]
    return [str(file) for file in [*filter(Path.is_file, teams)][:1] + sorted(Path("/usr/lib").glob(ALLOCATOR))[:1]]
