"""Fixtures that every test may ask for. The only reader of SOFTPROMPT_TEST_DATA."""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data sets (`data/`) and models (`models/`): SOFTPROMPT_TEST_DATA, else beside the checkout."""
    folder = Path(os.environ.get("SOFTPROMPT_TEST_DATA") or BESIDE)
    if (folder / "data").is_dir():
        return folder
    reason = "no data sets: SOFTPROMPT_TEST_DATA names no folder with data/, and there is no shared/ beside the checkout"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
