"""What no line may do (docs/decisions/0024): rules of ast-grep with samples, and bandit. `make bans` runs the same."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
INSTALLED = ("server", "prompt_store", "tuning", "cli", "softprompt_client")
PLANTED = {
    "no-torch-load": "import torch\nweights = torch.load('prompt.bin', weights_only=True)\n",
    "no-pickle": "import pickle\n",
    "no-mmap": "from mmap import mmap\n",
    "no-outgoing-request": "import requests\n\ndef fetched(body):\n    return requests.get(body.url)\n",
    "no-regex-from-outside": "import re\n\ndef fits(body, text):\n    return re.search(body.pattern, text)\n",
    "no-path-in-authorization": "def allowed(request):\n    return request.url.path == '/livez'\n",
    "no-compare-digest-on-text": "import hmac\n\ndef same(key):\n    return hmac.compare_digest(key, 'secret')\n",
    "no-cache-by-name": "from functools import cache\n\n@cache\ndef vectors(task: str) -> int:\n    return 1\n",
}
"""What the bans are for, as somebody would write it into the server."""


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def scan(folder: Path, *rooms: str) -> subprocess.CompletedProcess[str]:
    config = HERE / "sgconfig.yml"
    return run(BIN / "ast-grep", "scan", "--config", config, "--report-style", "short", *rooms, folder=folder)


def rules() -> list[dict[str, Any]]:
    texts = [file.read_text(encoding="utf-8") for file in sorted((HERE / "rules").glob("*.yml"))]
    return [rule for text in texts for rule in yaml.safe_load_all(text)]


def test_no_line_does_what_is_banned() -> None:
    """The rooms that are installed keep every rule."""
    found = scan(ROOT, *INSTALLED)
    assert found.returncode == 0, found.stdout + found.stderr


def test_bandit_finds_nothing() -> None:
    """Exclusions stand in pyproject.toml or on their line, with why."""
    found = run(BIN / "bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *INSTALLED)
    assert found.returncode == 0, found.stdout


def test_every_rule_has_good_and_bad_samples_and_tells_them_apart() -> None:
    """A rule is worth what its samples show."""
    samples = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in (HERE / "samples").glob("*.yml")]
    assert {rule["id"] for rule in rules()} == {sample["id"] for sample in samples}
    assert all(sample["valid"] and sample["invalid"] for sample in samples)
    judged = run(BIN / "ast-grep", "test", "--config", HERE / "sgconfig.yml", "--skip-snapshot-tests")
    assert judged.returncode == 0, judged.stdout


@pytest.mark.parametrize("rule", PLANTED)
def test_what_is_planted_in_the_server_is_found(rule: str, tmp_path: Path) -> None:
    """The rule reaches the server's files, under its own name."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "planted.py").write_text(PLANTED[rule], encoding="utf-8")
    found = scan(tmp_path, "server")
    assert found.returncode == 1
    assert f"error[{rule}]" in found.stdout
