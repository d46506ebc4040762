"""Who asks the server whether it is well says what it saw."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.fuzz import prober
from tests.fuzz.findings import Findings
from tests.fuzz.subject import Pace, hear

TIMEOUT = 0.3


class Well(BaseHTTPRequestHandler):
    """Says that it is."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def well() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Well) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def first(url: str) -> dict[str, Any]:
    """What the program tells first."""
    words = (prober.__file__, url, str(os.getpid()), "0.01", str(TIMEOUT))
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        told: dict[str, Any] = json.loads(asking.stdout.readline())
        asking.terminate()
    return told


def test_it_tells_what_was_said_and_how_long_it_took() -> None:
    """Of a server that answers, of one that does not, of one that is not there."""
    with well() as url:
        good = first(url)
    assert good["said"] == "200"
    assert good["busy"] >= 0
    with silent() as url:
        bad = first(url)
    assert bad["said"] == "TimeoutError"
    assert bad["took"] >= TIMEOUT
    assert first(url)["said"] == "ConnectionRefusedError"


@pytest.mark.parametrize(
    ("said", "took", "busy", "violations"),
    [("200", 0.9, 0.0, 0), ("200", 1.1, 0.0, 1), ("200", 1.1, 0.2, 0), ("503", 0.1, 0.0, 1), ("TimeoutError", 9, 9, 1)],
)
def test_late_is_wrong_unless_the_machine_was_busy(said: str, took: float, busy: float, violations: int) -> None:
    """And so is whatever is not 200, however soon."""
    findings = Findings("part")
    hear([json.dumps({"said": said, "took": took, "busy": busy})], findings, Pace())
    assert len(findings.violations) == violations
    assert findings.counts["probes"] == 1
