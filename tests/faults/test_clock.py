"""Clocks that jump (row X6), and a start over what was left (row X8)."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prompt_store.local import TEMPORARY
from prompt_store.store import Store
from tests.e2e.process import Process
from tests.faults.operations import history
from tests.prompt_store.make import ONE, THREE, TWO, put
from tests.tools import tool

LEFT = 10_000
START_SECONDS = 10.0
DECADE, DAY = "+10y", "-1d"
PUBLISH = """
import sys
from prompt_store.store import Store
from tests.prompt_store.make import ONE, TWO, THREE
file = {"1": ONE, "2": TWO, "3": THREE}[sys.argv[2]]
print(Store.open(sys.argv[1]).publish("a", file, verified=False, op_id=sys.argv[2])[0].created)
"""


@pytest.fixture(scope="module", autouse=True)
def _faketime() -> None:
    tool("faketime")


def published_at(clock: str, store: Path, file: str) -> int:
    """The time that a version has by a clock that is wrong."""
    command = ["faketime", "-f", clock, sys.executable, "-c", PUBLISH, str(store), file]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_x6_versions_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Written ten years ahead and a day behind, the last is current, and nothing is swept or lost for its age."""
    place = tmp_path / "store"
    store = Store.open(str(place))
    ahead, behind = published_at(DECADE, place, "1"), published_at(DAY, place, "2")
    assert ahead > time.time() + 9 * 365 * 86400
    assert behind < time.time() - 80_000
    put(store, "a", THREE)
    assert history(store, "a") == [("publish", file.digest) for file in (ONE, TWO, THREE)]
    published_at(DECADE, place, "1")
    assert history(Store.open(str(place)), "a") == [("publish", file.digest) for file in (ONE, TWO, THREE)]
    assert [task.name for task in store.list()[0]] == ["a"]


def test_x6_a_jump_in_the_middle_of_a_request_ends_nothing(base_folder: Path, tmp_path: Path) -> None:
    """Deadlines are measured with a clock that does not jump: ten years ahead, a day back, each request runs whole."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    environment = {
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # of another glibc: every wait for Python's lock takes a tenth of a second
        "LD_PRELOAD": library(),
    }
    process = Process("--model", str(base_folder), "--store", str(tmp_path / "store"), **environment)
    try:
        with process.wait_until_ready() as client:
            ask = {
                "inputs": "play",
                "parameters": {"max_new_tokens": 200, "ignore_eos": True, "timeout_ms": 60_000},
            }
            for jump in (DECADE, DAY, "+0"):
                with client.stream("POST", "/generate_stream", json=ask) as stream:
                    lines = (line for line in stream.iter_lines() if line)
                    next(lines)
                    clock.write_text(f"{jump}\n")
                    last = list(lines)[-1]
                assert json.loads(last.removeprefix("data: "))["details"]["usage"]["completion_tokens"] == 200
                answer = client.put("/tasks/a", json={"template": f"{jump} {{input}}"})
                assert answer.status_code == 201
                ten_years = answer.json()["created"] > time.time() + 9 * 365 * 86400
                assert ten_years == (jump == DECADE), "the clock did not jump"
            assert client.get("/tasks/a").json()["version"] == 3
    finally:
        assert process.end() == 0


def library() -> str:
    """What `faketime` preloads, as it tells the programs it starts."""
    command = ["faketime", "-f", "+0", sys.executable, "-c", "import os; print(os.environ['LD_PRELOAD'])"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_x8_a_start_over_ten_thousand_leftovers(tmp_path: Path) -> None:
    """All are swept, the task is there, in seconds."""
    place = tmp_path / "store"
    put(Store.open(str(place)), "a", ONE)
    for number in range(LEFT):
        (place / TEMPORARY / str(number)).write_bytes(b"half")
    began = time.monotonic()
    store = Store.open(str(place))
    assert time.monotonic() - began < START_SECONDS
    assert list((place / TEMPORARY).iterdir()) == []
    assert store.load(store.current("a")) == ONE
