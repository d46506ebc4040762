"""One virtual environment a tool, under build/clients, with the versions that its requirements file pins.

Knows pip; no tool.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.order import ROOT

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
HOME = ROOT / "build" / "clients"


def prepared(name: str, first: Sequence[str]) -> Path:
    """The tool's own Python. An environment that was made of the same file is taken as it is."""
    folder = HOME / name
    asked = requirements(name)
    stamp, digest = folder / "stamp", hashlib.sha256(asked.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if not stamp.is_file() or stamp.read_text(encoding="ascii") != digest:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        index = os.environ.get("TORCH_INDEX_URL")
        if first:
            subprocess.run([*pip, *(["--extra-index-url", index] if index else []), *first], check=True)
        subprocess.run([*pip, "--no-deps", "--requirement", asked], check=True)
        stamp.write_text(digest, encoding="ascii")
    return python


def requirements(name: str) -> Path:
    return ROOT / "clients" / name.replace("-", "_") / "requirements.txt"


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """As the environment itself says them."""
    ask = "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
    told = subprocess.run([python, "-c", ask, *packages], check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(told)
    return found


def called(command: Sequence[str | Path], log: Path, where: Path = ROOT, **variables: str | None) -> int:
    """Runs a tool with nothing of ours in its environment, and the hub left alone; what it says goes into `log`.

    `variables`: more of them; None takes one away.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SOFTPROMPT_", "PYTHON"))}
    wanted = {**inherited, **OFFLINE, **variables}
    environment = {name: value for name, value in wanted.items() if value is not None}
    with log.open("w", encoding="utf-8") as told:
        return subprocess.run(
            [str(part) for part in command], cwd=where, env=environment, stdout=told, stderr=told, check=False
        ).returncode
