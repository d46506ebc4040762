"""The report: best of the repeats, ratios from one run, files that can be read again."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import agreement, best, ratios, table, write


def run(peer: str, rate: float, first_ids: list[int]) -> dict[str, Any]:
    return {"peer": peer, "timings": [{"concurrency": 8, "tokens_per_second": rate, "first_ids": first_ids}]}


RUNS = [run("engine", 90.0, [1, 2]), run("peft", 10.0, [1, 3]), run("engine", 100.0, [1, 2])]


MACHINE = {
    "command": "make it",
    "commit": "abc1234",
    "cpu": "a processor",
    "threads": 2,
    "preloaded": False,
    "torch": "2",
    "transformers": "5",
    "peft": "0",
}


def test_the_best_repeat_counts() -> None:
    """A peer's rate is its best, and the ratio says how many times that the engine does."""
    rates = best(RUNS)
    assert rates == {"engine": {8: 100.0}, "peft": {8: 10.0}}
    assert ratios(rates) == {"peft": {8: pytest.approx(10.0)}}


def test_agreement_is_the_share_of_equal_first_ids() -> None:
    """A peer that answers half of the requests like the engine agrees by half."""
    assert agreement(RUNS) == {"peft": 0.5}


def test_the_table_names_the_ratio() -> None:
    """Each row gives the peer's rate and the engine's over it; what was not measured is a dash."""
    rates = best([*RUNS, {"peer": "static", "timings": []}])
    lines = table(rates).splitlines()
    assert lines[0] == "| output tokens/s at | 8 |"
    assert lines[3] == "| PEFT set_adapter per task | 10 (engine 10.00x) |"
    assert lines[4].endswith("| - |")


def test_results_are_written_as_data_and_picture(tmp_path: Path) -> None:
    """One JSON file, one table that says where it is from, one picture: the same bytes for the same figures."""
    write({"machine": MACHINE, "runs": RUNS}, tmp_path, "mixed")
    first = (tmp_path / "mixed.svg").read_bytes()
    write({"machine": MACHINE, "runs": RUNS}, tmp_path, "mixed")
    assert (tmp_path / "mixed.svg").read_bytes() == first
    assert json.loads((tmp_path / "mixed.json").read_text())["runs"] == RUNS
    written = (tmp_path / "mixed.md").read_text()
    assert written.startswith("| output")
    assert "`make it` at commit abc1234; a processor, 2 threads, no preloads; torch 2" in written
