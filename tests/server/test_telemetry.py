"""Logging never ends a request, and a line is a line."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from server.telemetry import MOST, Often, configure, logger


class Full:
    """A disk without space, as a stream."""

    tried = 0

    def write(self, _: str = "") -> int:
        self.tried += 1
        raise OSError(28, "No space left on device")

    flush = write


def test_lines_that_cannot_be_written_are_lost_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a reader that has gone."""
    full = Full()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", full)
        configure()
        for _ in range(3):
            logger().info("request")
    configure()
    assert full.tried >= 3


TALKERS = """
import logging, threading
from server.telemetry import configure, logger
configure()
def ours():
    for number in range(3000):
        logger().info("ours", number=number)
def theirs():
    for number in range(3000):
        logging.getLogger("prompt_store").warning("theirs %d", number)
threads = [threading.Thread(target=talk) for talk in (ours, theirs, ours)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_lines_of_several_threads_do_not_run_into_each_other() -> None:
    """Ours and the libraries', at once: every line is one JSON object."""
    said = subprocess.run([sys.executable, "-c", TALKERS], capture_output=True, text=True, check=True).stderr
    lines = said.splitlines()
    assert len(lines) == 9000
    for line in lines:
        assert json.loads(line)["event"].split()[0] in {"ours", "theirs"}


def test_what_a_crowd_is_refused_is_told_as_a_number() -> None:
    """The first few of each caller and kind have their lines, with their ids; the next window begins anew."""
    often, later, whose = Often(), list[Callable[[], None]](), list[dict[str, Any]]()

    def at(_: float, call: Callable[[], None]) -> None:
        later.append(call)
        whose.append(get_contextvars())

    kind: dict[str, str | int] = {"route": "/generate", "status": 429, "code": "too_many_requests"}
    with capture_logs() as lines, bound_contextvars(request_id="of another"):
        for number in range(MOST + 5):
            often.request(at, str(number), 1, **kind)
        often.request(at, "other", 1, **{**kind, "status": 503})
        often.request(at, "whose", 2, **kind)
        (end,) = later
        end()
        often.request(at, "again", 1, **kind)
    told = [line for line in lines if line["event"] == "request"]
    assert [line["request_id"] for line in told] == [*map(str, range(MOST)), "other", "whose", "again"]
    (summed,) = [line for line in lines if line["event"] == "requests"]
    assert summed == {"event": "requests", "log_level": "info", "count": 5, **kind}
    assert whose == [{}, {}], "a number is of no request"
