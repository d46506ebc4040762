"""Programs that some tests want beside Python's packages; `make ci-deps` installs them."""

import os
import shutil

import pytest


def tool(name: str) -> str:
    """The program's path; a skip, or in CI a failure, without it."""
    found = shutil.which(name)
    if found is not None:
        return found
    absent = f"{name} is not installed (make ci-deps)"
    if os.environ.get("CI"):
        pytest.fail(absent)
    pytest.skip(absent)
