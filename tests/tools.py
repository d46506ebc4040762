"""Programs that some tests want beside Python's packages; `make ci-deps` installs them."""

import os
import shutil
from typing import NoReturn

import pytest


def tool(name: str) -> str:
    """The program's path; a skip, or in CI a failure, without it."""
    return shutil.which(name) or absent(f"{name} is not installed (make ci-deps)")


def absent(what: str) -> NoReturn:
    """Something that a test wants of the machine is not there: a skip, or in CI a failure."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
