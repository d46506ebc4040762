"""A small base on disk for real processes."""

from pathlib import Path

import pytest

from tests.models import save


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))
