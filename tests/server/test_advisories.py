"""A package with a known vulnerability is told: by the table, by the doctor, and in a line at the start."""

import json
import os
import signal
import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from server.advisories import ADVISORIES, outdated
from tests.cli.conftest import COMMAND, environment


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A folder for PYTHONPATH in which h11 says that it is older."""
    info = tmp_path / "old" / "h11-0.15.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: h11\nVersion: 0.15.0\n", encoding="utf-8")
    return str(info.parent)


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
    command = [str(COMMAND), "doctor", "--json", "--model", str(tmp_path / "none"), "--store", str(tmp_path / "store")]
    done = subprocess.run(
        command, cwd=tmp_path, env={**environment(""), "PYTHONPATH": old}, capture_output=True, text=True, check=False
    )
    (found,) = [one for one in json.loads(done.stdout) if one["what"] == "packages"]
    assert (done.returncode, found["good"]) == (1, False)
    assert "h11 0.15.0: CVE-2025-43859" in found["answer"]
    assert "h11>=0.16.0" in found["advice"]


def test_a_start_says_an_old_package_in_one_line(old: str, base_folder: Path, tmp_path: Path) -> None:
    """And serves all the same: an operator decides when to stop."""
    command = [str(COMMAND), "serve", "--port", "0", "--model", str(base_folder), "--store", str(tmp_path / "store")]
    told = {
        **{k: v for k, v in os.environ.items() if not k.startswith("SOFTPROMPT_")},
        "PYTHONPATH": old,
        "SOFTPROMPT_JOBS": "",
    }
    with subprocess.Popen(
        command, cwd=tmp_path, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if '"ready"' in line:
                server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, lines
    warnings = [json.loads(line) for line in lines if "known vulnerability" in line]
    assert [(one["package"], one["installed"], one["fixed"]) for one in warnings] == [("h11", "0.15.0", "0.16.0")]
    assert any('"ready"' in line for line in lines)
