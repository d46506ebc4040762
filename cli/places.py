"""The files of a `softprompt tune` run: the prompt file, and beside it checkpoints, report and page.

Knows names and what may be written where; nothing of learning.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.watching import dumps
from prompt_store.durable import replace_file
from prompt_store.prompt import PromptFile
from tuning.compare import Cell, Comparison

CHECKPOINT = ".checkpoint.safetensors"
REPORT = ".report.json"
PAGE = ".report.html"


def ways(out: Path, run: Comparison, keep_all: bool) -> list[Path]:
    """Of checkpoints, and of all prompt files where they are kept."""
    kept = [kept_as(out, cell) for cell in run.cells if keep_all]
    return [checkpoint(out, name) for name in run.checkpoints] + kept


def checkpoint(out: Path, name: str) -> Path:
    return beside(out, name + CHECKPOINT)


def kept_as(out: Path, cell: Cell) -> Path:
    return beside(out, f".{cell.name}.safetensors")


def check(places: Sequence[Path], data: Sequence[Path] = ()) -> None:
    """Each is a file or nothing yet, none of `data`, in a folder that can be written. Raises ValueError."""
    read = {os.path.realpath(one) for one in data}
    for place in places:
        end = Path(os.path.realpath(place))  # of a link, which stays one; of links in a circle still a link
        taken = end.is_symlink() or (end.exists() and not end.is_file())  # a device would be replaced, too
        if taken or not os.access(end.parent, os.W_OK):
            raise ValueError(f"--out: {place} cannot be written")
        if str(end) in read:
            raise ValueError(f"--out: {place} holds the rows to learn from")


def beside(out: Path, suffix: str) -> Path:
    """A file of the same run: `a.safetensors` and `a.report.json`, `a.v1` and `a.v1.report.json`."""
    return out.with_name((out.stem if out.suffix == ".safetensors" else out.name) + suffix)


def saved(out: Path, run: Comparison) -> bool:
    return any(checkpoint(out, name).exists() for name in run.checkpoints)


def unfinished(out: Path, name: str) -> bool:
    """A checkpoint that is newer than what was written last, or the only file there is."""
    place = checkpoint(out, name)
    if not place.exists():
        return False
    last = beside(out, REPORT)
    return not last.exists() or last.stat().st_mtime < place.stat().st_mtime


def write(out: Path, file: PromptFile | None, report: Mapping[str, Any]) -> None:
    """The prompt file where there is one, and beside it the report with its curve."""
    if file is not None:
        replace_file(out.resolve(), file.data)  # a link stays one
    replace_file(beside(out, REPORT), f"{dumps(report, indent=1)}\n".encode())
