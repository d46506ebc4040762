"""A real server whose calls strace delays, fails or answers with a signal; only the calls named are looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.e2e.process import Process


def under_strace(trace: Path, *injects: str) -> list[str]:
    """`injects` as strace takes them, `fsync:delay_enter=2000000`."""
    calls = sorted({each for inject in injects for each in inject.split(":", 1)[0].split(",")})
    inject = [word for each in injects for word in ("-e", f"inject={each}")]
    command = ["strace", "-f", "--seccomp-bpf", "-q", "-y", "-o", str(trace)]
    return [*command, "-e", "signal=none", "-e", f"trace={','.join(calls)}", *inject]


@contextmanager
def traced(
    base: Path, store: Path, trace: Path, *injects: str, **variables: str
) -> Iterator[tuple[Process, httpx.Client]]:
    """A ready server of an existing store; it is killed in the end, and strace ends with it."""
    process = Process("--model", str(base), "--store", str(store), under=under_strace(trace, *injects), **variables)
    try:
        with process.wait_until_ready() as client:
            yield process, client
    finally:
        end(process)


def end(process: Process) -> None:
    """Kills the server, and strace ends with it."""
    for each in psutil.Process(process.pid).children():
        each.kill()
    process.wait()
