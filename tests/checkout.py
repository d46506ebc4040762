"""The checkout as its tests see it: which files there are, and what the Python among them holds."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "server",
    "prompt_store",
    "tuning",
    "cli",
    "softprompt_client",
    "pretraining",
    "benchmarks",
    "demos",
    "requirements",
    "docker",
    "tests",
)


@cache
def files() -> tuple[Path, ...]:
    """Every file that is tracked or would be, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(sorted({Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()}))


def python_files(*rooms: str) -> Iterator[Path]:
    """The Python files of the given rooms, of all of them without any."""
    for file in files():
        if file.suffix == ".py" and file.parts[0] in (rooms or ROOMS):
            yield file


def text(file: Path) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(text(file))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
