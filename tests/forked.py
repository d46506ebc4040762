"""A process forked off one that has imported everything: all tests of a worker pay once for seconds of imports.

Its socket, signals, threads and end are its own, as of any other. What libraries read of the environment while they
are imported is as it was at the first start: who sets such variables starts a process anew.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

OURS = "SOFTPROMPT_"
Preparation = Callable[[], object]
"""What the process does before all else; of a module, so that it can be sent there."""
IMPORTED = ["tests.imported"]


@dataclass(frozen=True, slots=True)
class Start:
    """Of `softprompt`: `before` is what the process does first."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path = field(default_factory=Path.cwd)
    stdin: str = ""
    before: Preparation | None = None


class Forked:
    """Started so. The surface is `subprocess.Popen`'s, as far as it goes."""

    def __init__(self, start: Start) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        out, out_end = context.Pipe(duplex=False)
        error, error_end = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_softprompt,
            args=(start, (out_end, error_end)),
        )
        self._process.start()
        out_end.close()
        error_end.close()
        self.stdout, self.stderr = _text(out), _text(error)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("softprompt", timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What is left of both streams, until it ends."""
        with ThreadPoolExecutor(2) as pool:
            out, error = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            self.wait(timeout)
            return out.result(), error.result()

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()
        self.stdout.close()
        self.stderr.close()


def started(
    arguments: Sequence[str],
    variables: Mapping[str, str],
    folder: Path | None = None,
    before: Preparation | None = None,
) -> Forked:
    """As `run`, and not waited for."""
    return Forked(Start(arguments, environment(variables), folder or Path.cwd(), before=before))


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Of our own variables these alone, and no terminal's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((OURS, "COLUMNS"))}
    return {**inherited, **variables}


def run(
    arguments: Sequence[str], timeout: float, variables: Mapping[str, str], folder: Path | None = None, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """As `subprocess.run` with captured output, in `environment(variables)`."""
    with Forked(Start(arguments, environment(variables), folder or Path.cwd(), stdin)) as process:
        out, error = process.communicate(timeout)
        return subprocess.CompletedProcess(["softprompt", *arguments], process.returncode or 0, out, error)


def _text(pipe: "Connection[None, None]") -> TextIO:
    with pipe:
        return os.fdopen(os.dup(pipe.fileno()), encoding="utf-8")


def _softprompt(start: Start, ends: "tuple[Connection[None, None], Connection[None, None]]") -> None:
    """In the new process."""
    for pipe, stream in zip(ends, (1, 2), strict=True):
        with pipe:
            os.dup2(pipe.fileno(), stream)
    with tempfile.TemporaryFile() as given:
        given.write(start.stdin.encode())
        given.seek(0)
        os.dup2(given.fileno(), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing's own is at its end
    os.chdir(start.folder)
    os.environ.clear()
    os.environ.update(start.environment)
    sys.argv = ["softprompt", *start.arguments]
    if start.before is not None:
        start.before()
    from cli.main import app  # noqa: PLC0415 - here it is there already

    app()
