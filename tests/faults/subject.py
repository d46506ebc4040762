"""A process that opens a store and acts on it while strace kills it or fails its calls: a few milliseconds a point.

What takes the time, starting Python, is done once: `python -m tests.faults.subject` has everything imported and forks
for each order it reads. The child waits until strace is attached, acts, and says how it ended.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.operations import OPERATIONS

CALLS = ("openat", "mkdir", "write", "fsync", "flock", "link", "unlink", "close", "rename")
"""Every kind of call by which the store changes the disk, or holds on to it."""
ACKNOWLEDGED, UNTYPED = "acknowledged", "another exception"
SAID = (ACKNOWLEDGED, "StoreFull", "StoreRefuses", "StoreUnavailable", "OutcomeUnknown", UNTYPED)
MOST, HIGHEST = 40, 64


@dataclass(frozen=True, slots=True)
class Ending:
    """`said`: ACKNOWLEDGED or the type of what was raised; nothing by a process that was killed before.

    `leaked`: files left open; `calls`: the traced calls as strace wrote them; `injected`: whether the fault came.
    """

    killed: bool
    said: str
    leaked: int
    calls: Sequence[str]
    injected: bool


class Subject:
    """The waiting parent. One order at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.subject"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._tell({"warm": str(folder / "warm")})

    def run(self, operation: str, root: Path, inject: str, call: str) -> Ending:
        """`operation` on the store in `root`, with strace's `inject` for the calls `call`."""
        pid = self._tell({"operation": operation, "root": str(root)})["pid"]
        trace = self._folder / "trace"
        command = ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={call}", "-e", "signal=none"]
        with subprocess.Popen(
            [*command, "-e", f"inject={call}:{inject}", "-p", str(pid)], stderr=subprocess.PIPE, text=True
        ) as strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            assert "attached" in said, said
            ended = self._tell({})
            strace.stderr.read()
        calls = trace.read_text(encoding="utf-8", errors="replace").splitlines()
        injected = ended["killed"] or any("(INJECTED)" in line for line in calls)
        return Ending(**ended, calls=calls, injected=injected)

    def _tell(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        self._process.communicate()


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    waiting = Subject(folder)
    try:
        yield waiting
    finally:
        waiting.end()


def points(subject: Subject, operation: str, inject: str, folder: Path) -> Iterator[tuple[str, Path, Ending]]:
    """What became of a fresh store, for the first call of each kind that the operation makes, the second, and so on."""
    prepared = folder / "prepared"
    before = OPERATIONS[operation].before
    if before is not None:
        before(prepared)
    for call in CALLS:
        number = 0
        while True:
            number += 1
            root = folder / f"{call}-{number}"
            if before is not None:
                shutil.copytree(prepared, root)
            ending = subject.run(operation, root, f"{inject}:when={number}", call)
            if not ending.injected:
                shutil.rmtree(root, ignore_errors=True)
                break
            yield f"{operation}: {call} {number}", root, ending
            shutil.rmtree(root)


def _serve() -> None:
    """Reads orders; an empty one lets the child of the last one go."""
    logging.disable()
    go, pid = -1, 0
    for line in sys.stdin:
        order = json.loads(line)
        if "warm" in order:  # whatever is imported or opened on first use
            for name, operation in OPERATIONS.items():
                root = Path(order["warm"]) / name
                if operation.before is not None:
                    operation.before(root)
                operation.run(root)
            _say({})
        elif order:
            pid, go = _fork(OPERATIONS[order["operation"]].run, Path(order["root"]))
            _say({"pid": pid})
        else:
            os.close(go)
            _, status = os.waitpid(pid, 0)
            _say(_told(status))


def _fork(run: Callable[[Path], None], root: Path) -> tuple[int, int]:
    """The child says how it ended by its exit code: any other way would be one more call to kill."""
    (wait, go), (heard, ready) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        os.close(wait)
        os.close(ready)
        os.read(heard, 1)
        os.close(heard)
        return pid, go
    os.close(go)
    os.write(ready, b".")
    os.read(wait, 1)  # strace is attached meanwhile
    files = _open_files()
    try:
        run(root)
        said = ACKNOWLEDGED
    except BaseException as error:  # noqa: BLE001 - told to the parent
        said = type(error).__name__
    os._exit(SAID.index(said if said in SAID else UNTYPED) + len(SAID) * min(_open_files() - files, MOST))


def _open_files() -> int:
    """Asked without opening one."""
    return sum(1 for file in range(HIGHEST) if _is_open(file))


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def _told(status: int) -> dict[str, Any]:
    if os.WIFSIGNALED(status):
        return {"killed": True, "said": "", "leaked": 0}
    leaked, said = divmod(os.WEXITSTATUS(status), len(SAID))
    return {"killed": False, "said": SAID[said], "leaked": leaked}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
