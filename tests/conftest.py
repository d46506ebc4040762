"""Fixtures that every test may ask for. The only reader of SOFTPROMPT_TEST_DATA."""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "shared"
ABSENT = "no data sets: SOFTPROMPT_TEST_DATA is unset or wrong, and no shared/data stands beside the checkout"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data sets (`data/`) and models (`models/`); a skip, or in CI a failure, without it."""
    folder = Path(os.environ.get("SOFTPROMPT_TEST_DATA") or BESIDE)
    if (folder / "data").is_dir():
        return folder
    if os.environ.get("CI"):
        pytest.fail(ABSENT)
    pytest.skip(ABSENT)
