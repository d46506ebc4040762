"""What a foreign tool found out about the server, and what a tool must do to be run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """`figures` are recorded; `faults` say what is amiss: none is wanted."""

    figures: dict[str, Any]
    faults: list[str]


class Tool(Protocol):
    """A module of this package. `PACKAGES`: whose versions are recorded."""

    PACKAGES: tuple[str, ...]
    FIRST: tuple[str, ...]
    """Packages that pip installs first, with whatever they need."""

    def run(self, python: Path, work: Path) -> Found:
        """Start a server, let the tool ask it, judge. `python`: of the tool's environment; `work`: an empty folder."""
