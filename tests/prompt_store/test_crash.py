"""kill -9 at every system call that changes the disk: afterwards old or new, whole, and never lost once acknowledged.

The program below runs under strace, which kills it on entering the N-th call of a kind; N counts up until it survives.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prompt_store.errors import TaskDeleted, TaskNotFound
from prompt_store.local import TEMPORARY
from prompt_store.prompt import PromptFile
from prompt_store.store import Store
from tests.prompt_store.make import ONE, TWO, put

PROGRAM = """
import sys
from prompt_store.prompt import parse
from prompt_store.store import Store
root, operation, file = sys.argv[1:]
store = Store.open(root)
if operation == "publish":
    store.publish("a", parse(open(file, "rb").read()), verified=False, op_id="op")
elif operation == "delete":
    store.delete("a", "op")
else:
    store.rollback("a", 1, "op")
sys.stdout.write("acknowledged")
"""
CALLS = ("mkdir", "write", "fsync", "flock", "link", "unlink")
DECISIVE = ("fsync", "link")
"""Enough where another case has been through the same lines call by call."""
SURVIVED = 0


def strace_works() -> bool:
    """Some containers forbid it."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    return subprocess.run([strace, "-qq", "-e", "trace=none", "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not strace_works(), reason="strace is not installed, or may not trace here")


def run(root: Path, operation: str, file: Path, call: str, number: int) -> bool | None:
    """Whether the operation was acknowledged; None when it survived because there was no such call."""
    injected = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={number}",
    ]
    done = subprocess.run(
        [*injected, sys.executable, "-c", PROGRAM, str(root), operation, str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == SURVIVED:
        return None
    assert done.returncode in {-9, 137}, done.stderr
    return done.stdout == "acknowledged"


def points(root: Path, operation: str, file: Path, call: str) -> Iterator[tuple[Path, bool]]:
    """A copy of the store in `root` after a kill at each call of this kind in turn."""
    number = 0
    while True:
        number += 1
        copy = root.with_name(f"{call}-{number}")
        if root.exists():
            shutil.copytree(root, copy)
        acknowledged = run(copy, operation, file, call, number)
        if acknowledged is None:
            return
        yield copy, acknowledged


def state(store: Store) -> list[tuple[str, str | None]]:
    """Every version of the task, oldest first, each loaded whole."""
    try:
        versions = store.versions("a")[::-1]
    except TaskNotFound:
        return []
    for task in versions:
        if task.digest is not None:
            assert store.load(task).digest == task.digest
    return [(task.event, task.digest) for task in versions]


BEFORE: dict[str, tuple[str, list[PromptFile], list[tuple[str, str | None]]]] = {
    "publish on a new store": ("publish", [], [("publish", ONE.digest)]),
    "publish": ("publish", [TWO], [("publish", TWO.digest), ("publish", ONE.digest)]),
    "delete": ("delete", [TWO], [("publish", TWO.digest), ("delete", None)]),
    "rollback": (
        "rollback",
        [ONE, TWO],
        [("publish", ONE.digest), ("publish", TWO.digest), ("rollback", ONE.digest)],
    ),
}


@pytest.mark.parametrize("name", BEFORE)
def test_kill_at_every_call(tmp_path: Path, name: str) -> None:
    """Old or new, whole; no temporary file outlives a start; the operation again makes exactly one version (P1-P4)."""
    operation, files, after = BEFORE[name]
    (tmp_path / "one").write_bytes(ONE.data)
    root = tmp_path / "store"
    if files:
        store = Store.open(str(root))
        for file in files:
            put(store, "a", file)
    killed = 0
    calls = CALLS if name in {"publish on a new store", "delete"} else DECISIVE
    for call in calls:
        for copy, acknowledged in points(root, operation, tmp_path / "one", call):
            killed += 1
            again = Store.open(str(copy))
            assert list((copy / TEMPORARY).iterdir()) == []
            assert state(again) in ([after] if acknowledged else [after[:-1], after])
            if operation == "publish":
                again.publish("a", ONE, verified=False, op_id="op")
            elif operation == "delete":
                again.delete("a", "op")
                with pytest.raises(TaskDeleted):
                    again.current("a")
            else:
                again.rollback("a", 1, "op")
            assert state(again) == after
    assert killed >= len(calls)
