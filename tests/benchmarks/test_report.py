"""The report: best of the repeats and their spread, ratios from one run, files that can be read again."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.parts import mixed
from benchmarks.report import charted, figures, gathered, shown, table, write


def run(peer: str, rate: float, first_ids: list[int]) -> dict[str, Any]:
    timings = [{"concurrency": 8, "tokens_per_second": rate, "first_ids": first_ids}]
    return {"label": peer, "timings": timings, "preload": [], "load_seconds": 1.0}


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


def test_the_best_repeat_counts_and_the_others_are_told() -> None:
    """A peer's rate is its best with the least and the most, and the ratio says how many times that the engine does."""
    (chart,) = mixed.charts(RUNS)
    engine, peft = (chart.rows[mixed.LABELS[name]]["8"] for name in ("engine", "peft"))
    assert (engine.best, engine.least, engine.most, engine.ratio) == (100.0, 90.0, 100.0, None)
    assert peft.best == 10.0
    assert peft.ratio == pytest.approx(10.0)


def test_preloaded_peers_are_compared_with_the_preloaded_engine() -> None:
    """With preloads on either side the ratio is between those; a peer without stands beside the engine without."""
    more = [*RUNS, run("engine+preload", 200.0, [1, 2]), run("vllm+preload", 100.0, [1, 2])]
    rows = mixed.charts(more)[0].rows
    assert rows["vLLM, prompt_embeds, preloaded"]["8"].ratio == pytest.approx(2.0)
    assert rows[mixed.LABELS["peft"]]["8"].ratio == pytest.approx(10.0)
    assert rows["softprompt engine, preloaded"]["8"].ratio is None


def test_agreement_is_the_share_of_equal_first_ids() -> None:
    """A peer that answers half of the requests like the engine agrees by half."""
    assert mixed.agreement(RUNS) == {"peft": 0.5}


def test_the_table_names_spread_and_ratio() -> None:
    """Each row gives the best, the spread of more than one repeat, and the ratio; what was not measured is a dash."""
    found = gathered([("a", "1", 2.0), ("a", "1", 4.0), ("a", "2", 8.0), ("b", "1", 3.0)])
    chart = charted("seconds", "size", found, best=min, ratio="over a", reference=lambda _, column: ("a", column))
    assert table(chart).splitlines() == [
        "| seconds, by size | 1 | 2 |",
        "|---|---|---|",
        "| a | 2.00 (2.00-4.00) | 8.00 |",
        "| b | 3.00 x1.50 | - |",
        "",
        "x: over a.",
    ]


def test_three_digits_are_shown() -> None:
    """Small figures keep three digits, large ones all of theirs."""
    assert [shown(value) for value in (0.0, 0.01234, 1.5, 68.27, 1234.5)] == ["0.00", "0.0123", "1.50", "68.3", "1,234"]


def test_results_are_written_as_data_and_picture(tmp_path: Path) -> None:
    """One JSON file, one page that says where it is from, one picture: the same bytes for the same figures."""
    charts, notes = mixed.charts(RUNS), mixed.notes(RUNS)
    whole = {"part": "mixed", "machine": MACHINE, "notes": notes, "runs": RUNS}
    write(whole, charts, tmp_path, "mixed")
    first = (tmp_path / "mixed.svg").read_bytes()
    write(whole, charts, tmp_path, "mixed")
    assert (tmp_path / "mixed.svg").read_bytes() == first
    data = json.loads((tmp_path / "mixed.json").read_text())
    assert data["runs"] == RUNS
    assert data["figures"] == figures(charts)
    written = (tmp_path / "mixed.md").read_text()
    assert written.startswith("| output")
    assert "`make it` at commit abc1234; a processor, 2 threads, no LD_PRELOAD for all; torch 2" in written
