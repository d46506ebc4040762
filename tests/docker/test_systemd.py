"""docker/systemd: the unit by systemd's own judgement, and what it promises by its lines; compose beside it."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from server.config import Settings
from server.leaving import ENGINE_FAILED, LATEST_SECONDS
from tests.checkout import ROOT
from tests.tools import tool

UNIT = ROOT / "docker" / "systemd" / "softprompt.service"
EXPOSURE = 2.0
"""Of ten, as `systemd-analyze security` counts."""
NEEDED = Settings.model_fields["drain_seconds"].default + LATEST_SECONDS


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    """Every setting of it with its values."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found[name].append(value)
    return found


def test_systemd_takes_it_as_it_is(tmp_path: Path) -> None:
    """No warning from `verify`, little exposure from `security`; the program stands where this machine has one."""
    analyze = tool("systemd-analyze")
    program = shutil.which("true")
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    verified = subprocess.run([analyze, "verify", tmp_path / UNIT.name], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        [analyze, "security", "--offline=true", tmp_path / UNIT.name], capture_output=True, text=True, check=True
    )
    level = re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert level is not None
    assert float(level[1]) <= EXPOSURE


def test_it_is_started_again_when_it_died_and_not_when_it_was_asked_to_end(unit: dict[str, list[str]]) -> None:
    """On any failure but the exit code of a setting that cannot be."""
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert str(ENGINE_FAILED) not in unit["RestartPreventExitStatus"]
    assert unit["StartLimitBurst"] == ["5"]


def test_it_is_killed_only_after_its_drain(unit: dict[str, list[str]]) -> None:
    """The unit's and the compose file's patience are longer than the drain's default and what comes after it."""
    assert float(unit["TimeoutStopSec"][0]) > NEEDED
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]["server"]
    assert float(compose["stop_grace_period"].removesuffix("s")) > NEEDED
    assert compose["restart"] == "unless-stopped"


def test_its_variables_are_settings(unit: dict[str, list[str]]) -> None:
    """And what it writes lies in folders that systemd makes for it."""
    given = dict(one.split("=", 1) for one in unit["Environment"])
    ours = {name.removeprefix("SOFTPROMPT_").lower() for name in given if name.startswith("SOFTPROMPT_")}
    assert ours <= set(Settings.model_fields)
    assert given["SOFTPROMPT_STORE"].startswith(f"/var/lib/{unit['StateDirectory'][0]}/")
    assert given["SOFTPROMPT_JOBS"].startswith(f"/var/lib/{unit['StateDirectory'][0]}/")
    assert given["HF_HOME"] == f"/var/cache/{unit['CacheDirectory'][0]}"
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["NoNewPrivileges"] == unit["DynamicUser"] == ["yes"]
    assert int(unit["LimitNOFILE"][0]) >= 65536
