"""A server at rest, seen from outside: its process, its own figures, and its store's directory.

Knows no requests. At rest nobody asks, so every figure ought to be what it was at the last rest.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from prompt_store.local import TEMPORARY
from tests.e2e.process import Process

REST_SECONDS = 5.0
"""For what ends after its answer: connections that close, threads that put something away, memory that goes back."""
GAUGE = re.compile(
    r"^(softprompt_(?:num_requests_\w+|resident_prompts|event_loop_tasks|memory_given\w+|cache_bytes\S+)) (\S+)$"
)
NAMES = {
    "softprompt_num_requests_running": "running",
    "softprompt_num_requests_waiting": "waiting",
    "softprompt_event_loop_tasks": "tasks",
    "softprompt_resident_prompts": "prompts",
    "softprompt_memory_given_back_total": "given_back",
    'softprompt_cache_bytes{cache="prompts"}': "prompt_bytes",
    'softprompt_cache_bytes{cache="texts"}': "text_bytes",
}
Sample = dict[str, float]
AT_REST = ("fds", "threads", "tasks", "running", "waiting", "temporary")
"""What goes back to where it was."""


def rest(process: Process, http: httpx.Client, store: Path, before: Mapping[str, float] | None) -> Sample:
    """As soon as nothing stands above the last sample and memory has gone back, or after `REST_SECONDS` as it is."""
    deadline = time.monotonic() + REST_SECONDS
    given = look(process, http, store)["given_back"]
    while True:
        found = look(process, http, store)
        busy = found["running"] or found["waiting"] or found["temporary"]
        above = before is not None and any(found[name] > before[name] for name in AT_REST)
        kept = found["given_back"] == given
        if not (busy or above or kept) or time.monotonic() > deadline:
            return found


def look(process: Process, http: httpx.Client, store: Path) -> Sample:
    """Bytes, and counts."""
    own = Path("/proc") / str(process.pid)
    status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
    told = http.get("/metrics").text.splitlines()
    gauges = {found[1]: found[2] for line in told if (found := GAUGE.match(line))}
    files = [path for path in store.rglob("*") if path.is_file()]
    return {
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "fds": len(list((own / "fd").iterdir())),
        **{short: float(gauges[name]) for name, short in NAMES.items()},
        "temporary": sum(TEMPORARY in path.parts for path in files),
        "versions": sum(path.suffix == ".json" for path in files),
        "blobs": sum(path.parent.name == "blobs" for path in files),
        "store_bytes": sum(path.stat().st_size for path in files),
    }
