"""What a system has to be able to do to be measured beside the engine."""

from collections.abc import Sequence
from typing import Protocol

from benchmarks.workload import Job


class Still:
    """A peer without threads of its own."""

    def close(self) -> None:
        """Nothing runs besides."""


class Peer(Protocol):
    """Ready to serve on construction: base loaded, soft prompts in memory."""

    def generate(self, jobs: Sequence[Job], concurrency: int) -> list[list[int]]:
        """The new ids of every job, in order, with at most `concurrency` of them in flight."""

    def close(self) -> None:
        """Ends whatever threads it has: most have none."""
