"""A process forked off one that has imported everything: all tests of a worker pay once for seconds of imports.

Its socket, signals, threads and end are its own, as of any other. What libraries read of the environment while they
are imported is as it was at the first start: who sets such variables starts a process anew.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

OURS = "SOFTPROMPT_"
IMPORTED = ["cli.main", "cli.serve", "cli.tune", "cli.evaluate"]


class Forked:
    """`softprompt` with these arguments. The surface is `subprocess.Popen`'s, as far as it goes."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None, stdin: str = ""
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        out, out_end = context.Pipe(duplex=False)
        error, error_end = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_softprompt,
            args=(arguments, dict(environment), str(folder or Path.cwd()), stdin, (out_end, error_end)),
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


def run(
    arguments: Sequence[str], timeout: float, variables: Mapping[str, str], folder: Path | None = None, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """As `subprocess.run` with captured output; of our own variables the process has these alone, and no terminal's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((OURS, "COLUMNS"))}
    process = Forked(arguments, {**inherited, **variables}, folder, stdin)
    with process.stdout, process.stderr, ThreadPoolExecutor(2) as pool:
        out, error = pool.submit(process.stdout.read), pool.submit(process.stderr.read)
        code = process.wait(timeout)
        return subprocess.CompletedProcess(["softprompt", *arguments], code, out.result(), error.result())


def _text(pipe: "Connection[None, None]") -> TextIO:
    with pipe:
        return os.fdopen(os.dup(pipe.fileno()), encoding="utf-8")


def _softprompt(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    stdin: str,
    ends: "tuple[Connection[None, None], Connection[None, None]]",
) -> None:
    """In the new process."""
    for pipe, stream in zip(ends, (1, 2), strict=True):
        with pipe:
            os.dup2(pipe.fileno(), stream)
    with tempfile.TemporaryFile() as given:
        given.write(stdin.encode())
        given.seek(0)
        os.dup2(given.fileno(), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing's own is at its end
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["softprompt", *arguments]
    from cli.main import app  # noqa: PLC0415 - here it is there already

    app()
