"""A package with a known vulnerability is told: by the table, by the doctor, and in a line at the start."""

import json
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from server.advisories import ADVISORIES, outdated
from tests import forked
from tests.e2e.process import Process


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A folder to import from in which h11 says that it is older."""
    info = tmp_path / "old" / "h11-0.15.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: h11\nVersion: 0.15.0\n", encoding="utf-8")
    return str(info.parent)


def import_first_from(folder: str) -> None:
    """In the process that it is sent to."""
    sys.path.insert(0, folder)


def test_what_is_installed_here_is_sound() -> None:
    """As far as the table goes."""
    assert outdated() == []


@pytest.mark.parametrize("advisory", ADVISORIES, ids=[one.package for one in ADVISORIES])
def test_a_version_before_the_first_sound_one_is_told(advisory: tuple[str, str, str, str]) -> None:
    """Its release candidates too, the first sound version itself not."""

    def installed(version: str) -> list[str]:
        def of(package: str) -> str:
            if package != advisory[0]:
                raise PackageNotFoundError(package)
            return version

        return [one.advisory.package for one in outdated(of)]

    assert installed(f"{advisory[1]}rc1") == [advisory[0]]
    assert installed(advisory[1]) == installed(f"{advisory[1]}+cpu") == []


def test_the_doctor_fails_on_an_old_package(old: str, tmp_path: Path) -> None:
    """With the advisory, and what to install."""
    command = ["doctor", "--json", "--model", str(tmp_path / "none"), "--store", str(tmp_path / "store")]
    with forked.started(command, {}, tmp_path, partial(import_first_from, old)) as done:
        said, _ = done.communicate(60)
    (found,) = [one for one in json.loads(said) if one["what"] == "packages"]
    assert (done.returncode, found["good"]) == (1, False)
    assert "h11 0.15.0: CVE-2025-43859" in found["answer"]
    assert "h11>=0.16.0" in found["advice"]


def test_a_start_says_an_old_package_in_one_line(old: str, base_folder: Path, tmp_path: Path) -> None:
    """And serves all the same: an operator decides when to stop."""
    process = Process(
        "--model", str(base_folder), "--store", str(tmp_path / "store"), under=partial(import_first_from, old)
    )
    process.wait_until_ready().close()
    assert process.end() == 0
    warnings = [line for line in process.log if "known vulnerability" in line["event"]]
    assert [(one["package"], one["installed"], one["fixed"]) for one in warnings] == [("h11", "0.15.0", "0.16.0")]
