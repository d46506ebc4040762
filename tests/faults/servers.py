"""A real server whose calls strace delays, fails, or answers with a signal, from when it is ready."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.e2e.process import Process


@contextmanager
def traced(
    base: Path, store: Path, trace: Path, inject: str, **variables: str
) -> Iterator[tuple[Process, httpx.Client]]:
    """A ready server with `inject`; killed in the end."""
    process = Process("--model", str(base), "--store", str(store), **variables)
    try:
        with process.wait_until_ready() as client, attached(process, trace, inject):
            yield process, client
    finally:
        process.send(signal.SIGKILL)
        process.wait()


@contextmanager
def attached(process: Process, trace: Path, inject: str) -> Iterator[None]:
    """`inject` as strace takes it, `fsync:delay_enter=1000000`; the process is killed in the end.

    A call is counted in each thread, from here on. strace finds the calls that it wants by stopping at all of them:
    its faster way (--seccomp-bpf) injects no signals.
    """
    call = inject.partition(":")[0]
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", "signal=none", "-e", f"trace={call}"]
    with subprocess.Popen(
        [*command, "-e", f"inject={inject}", "-p", str(process.pid)], stderr=subprocess.PIPE, text=True
    ) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, said
        try:
            yield
        finally:
            process.send(signal.SIGKILL)
            strace.communicate()
