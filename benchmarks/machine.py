"""Where and with what something was measured. Knows nothing of what."""

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.order import PRELOAD, ROOT


def machine(threads: int, words: Sequence[str], program: str = "benchmarks") -> dict[str, Any]:
    """The processor, the versions, the checkout and the command; `preloaded` is what every process inherited."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "preloaded": bool(os.environ.get(PRELOAD)),
        "commit": commit(),
        "command": shlex.join(["python", "-m", program, *(_without_folder(word) for word in words)]),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
    }


def commit() -> str:
    """The checkout's, with a plus when files differ from it; "unknown" outside of one."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],  # noqa: S607 - whichever git the user has
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
            cwd=ROOT,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def _without_folder(word: str) -> str:
    """Where files lie on one machine is nobody else's business."""
    return Path(word).name if word.startswith("/") else word


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
