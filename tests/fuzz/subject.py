"""The server under a fuzzer, a process of its own: how it is started, how much it holds, whether it is still well.

Knows nothing of what is sent to it.
"""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.process import Process, serving
from tests.faults.outcome import MEMORY
from tests.fuzz.findings import Findings
from tests.models import save

RECEIVE_SECONDS = 1.0
BODY_BYTES, UPLOAD_BYTES = 256 * 2**10, 2**20
VARIABLES = {
    "SOFTPROMPT_RECEIVE_SECONDS": f"{RECEIVE_SECONDS:g}",
    "SOFTPROMPT_WRITE_SECONDS": "2",
    "SOFTPROMPT_MAX_BODY_BYTES": str(BODY_BYTES),
    "SOFTPROMPT_MAX_UPLOAD_BYTES": str(UPLOAD_BYTES),
    "SOFTPROMPT_KV_BUDGET": "32M",
    "SOFTPROMPT_PROMPT_BUDGET": "8M",
    "SOFTPROMPT_TEXT_BUDGET": "8M",
}
"""Short deadlines and little room: what is never freed is soon seen."""
GROWTH_BYTES = 160 * 2**20
"""Of memory, over what it held once everything had been used: budgets, threads' arenas, and no more with the hours."""
THREADS = 80
"""The pools that a server may fill: the store's, the tokenizer's, asyncio's own."""
DESCRIPTORS = 12
"""A connection or two that is being closed, the store's folders."""
PROBE_SECONDS = 0.2
SETTLED_SECONDS = 60.0
"""For requests that nobody waits for any more to end, and connections to be closed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`probe`: seconds for /livez. `lingers`: there is time to wait for connections that are left open."""

    probe: float = 1.0
    lingers: bool = True


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: bytes of memory, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


class Subject:
    """A ready server. `look` and `settle` are for one thread."""

    def __init__(self, process: Process, http: httpx.Client, findings: Findings, pace: Pace) -> None:
        self.process = process
        self.http = http
        self.url = process.url
        self.pace = pace
        self._findings = findings
        self._seen = psutil.Process(process.pid)
        self._before: Held | None = None
        self._logged = 0

    def held(self) -> Held:
        with self._seen.oneshot():
            return Held(self._seen.memory_info().rss, self._seen.num_fds(), self._seen.num_threads())

    def warmed(self) -> None:
        """Everything has been used once: from here on it may not grow."""
        self._before = self.held()

    @contextmanager
    def probed(self) -> Iterator[None]:
        """`/livez` is asked by a process of its own: this one has pauses, while it draws and compares."""
        program = str(Path(__file__).with_name("prober.py"))
        words = (self.url, str(self.process.pid), str(PROBE_SECONDS), str(10 * self.pace.probe))
        with deaf_to_interrupts():
            prober = subprocess.Popen([sys.executable, program, *words], stdout=subprocess.PIPE, text=True)
        with prober:
            assert prober.stdout is not None
            hearing = threading.Thread(target=hear, args=(prober.stdout, self._findings, self.pace))
            hearing.start()
            try:
                yield
            finally:
                prober.terminate()
                hearing.join()

    def look(self, case: str) -> None:
        """Memory and log so far."""
        now, before = self.held(), self._before
        self._findings.most("megabytes held", now.memory / 2**20)
        if before is not None:
            self._findings.most("megabytes grown", (now.memory - before.memory) / 2**20)
            grown = now.memory - before.memory
            self._findings.claim(grown <= GROWTH_BYTES, case, f"memory grew by {grown} bytes")
        lines, self._logged = self.process.log[self._logged :], len(self.process.log)
        for line in lines:
            self._findings.claim(line.get("level") not in {"error", "critical"}, case, f"the log says {line}")
        for text in self.process.other:
            self._findings.claim("Traceback" not in text, case, f"the output says {text.strip()}")

    def settle(self, case: str) -> None:
        """Nothing runs, nothing waits, and what was taken is given back."""
        before = self._before or self.held()
        until = time.monotonic() + SETTLED_SECONDS
        while (left := self._left(before)) and time.monotonic() < until:
            threading.Event().wait(0.2)
        self._findings.claim(not left, case, f"after the last request: {left}")
        self.look(case)

    def _left(self, before: Held) -> str:
        engine, now = self.http.get("/info").json()["engine"], self.held()
        found = {name: engine[name] for name in ("running", "waiting") if engine[name]}
        if now.descriptors > before.descriptors + DESCRIPTORS:
            found["descriptors"] = f"{now.descriptors}, {before.descriptors} before"
        if now.threads > before.threads + THREADS:
            found["threads"] = f"{now.threads}, {before.threads} before"
        return ", ".join(f"{name} {value}" for name, value in found.items())


def hear(said: Iterable[str], findings: Findings, pace: Pace) -> None:
    """What the prober tells, a line each time."""
    for line in said:
        probe = json.loads(line)
        took, busy = probe["took"], probe["busy"]
        findings.count("probes")
        findings.most("slowest probe, seconds", took)
        findings.most("slowest probe, less what a busy machine kept it, seconds", max(0.0, took - busy))
        good = probe["said"] == "200" and took - busy <= pace.probe
        what = f"/livez: {probe['said']} in {took:.2f} s, {busy:.2f} of them for want of a processor"
        findings.claim(good, "probe", what)


@contextmanager
def subject(findings: Findings, variables: Mapping[str, str], pace: Pace) -> Iterator[Subject]:
    """A server on a small random base, with a store and jobs of its own, probed."""
    with (
        tempfile.TemporaryDirectory() as base,
        tempfile.TemporaryDirectory(dir=MEMORY) as store,
        ExitStack() as stack,
    ):
        own = {"SOFTPROMPT_JOBS": f"{store}/jobs", **VARIABLES, **variables}
        with deaf_to_interrupts():
            options = ("--model", str(save(Path(base))), "--store", f"{store}/store")
            process, http = stack.enter_context(serving(*options, **own))
        found = Subject(process, http, findings, pace)
        with found.probed():
            yield found


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """What is started inside ends when we say so, not when somebody presses Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def published(http: httpx.Client, name: str, **task: Any) -> None:
    """A text task."""
    http.put(f"/tasks/{name}", json=task).raise_for_status()
