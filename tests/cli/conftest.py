"""A running server, and the command as its users call it: a process, known by its exit code and what it says."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forked
from tests.server.conftest import base_folder, silence, site
from tests.server.site import Site

__all__ = ["base_folder", "silence", "site"]

COMMAND = Path(sys.executable).parent / "softprompt"
SECONDS = 120
Softprompt = Callable[..., subprocess.CompletedProcess[str]]


def environment(url: str) -> dict[str, str]:
    """Nothing of who runs the tests."""
    return forked.environment({"SOFTPROMPT_URL": url})


@pytest.fixture
def softprompt(site: Site, tmp_path: Path) -> Softprompt:
    """The command in an empty folder, asking `site`. Keywords: `stdin`, and variables of the environment."""

    def run(*arguments: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return forked.run([*map(str, arguments)], SECONDS, {"SOFTPROMPT_URL": site.url, **variables}, tmp_path, stdin)

    return run
