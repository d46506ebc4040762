"""The parts that ask the engine as a library, for real and tiny: what their figures are figures of."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import arguments, main
from benchmarks.measure import PARTS, measure
from benchmarks.order import Order
from benchmarks.parts import step
from benchmarks.workload import TINY
from prompt_store.metadata import KINDS
from server.engine.native.binding import kernels

SMALL = ("--tiny", "--threads", "1")


def measured(part: str, *words: str) -> list[dict[str, Any]]:
    """One repeat, in this process."""
    launches = PARTS[part].launches(arguments([part, *SMALL, *words]), 0)
    return [{"label": launch.label, **measure(Order.from_json(launch.argument))} for launch in launches]


def test_more_tasks_are_more_tasks() -> None:
    """As many are in memory as the column says; distinct asks for all of them, identical for one."""
    runs = measured("tasks", "--concurrency", "5")
    points = {(point["tasks"], point["pattern"]): point for point in runs[0]["points"]}
    assert {tasks: points[tasks, "identical"]["resident"] for tasks in (1, 10)} == {1: 1, 10: 10}
    assert [points[10, pattern]["asked"] for pattern in ("distinct", "identical")] == [10, 1]
    (chart,) = PARTS["tasks"].charts(runs)
    assert chart.columns == ("1", "10")
    assert {line["1"].best for line in chart.rows.values()} == {points[1, "identical"]["tokens_per_second"]}
    assert all(line["10"].ratio for line in chart.rows.values())


def test_every_kind_is_compared_with_the_bare_model() -> None:
    """Each length of each kind has both figures and their ratio to those without a soft prompt, first in the table."""
    runs = measured("rows", "--concurrency", "2")
    first, rates = PARTS["rows"].charts(runs)
    assert next(iter(first.rows)) == next(iter(rates.rows)) == "bare model"
    assert len(rates.rows) == 1 + 3 + 3 + 1
    for chart in (first, rates):
        assert [cell.ratio is None for line in chart.rows.values() for cell in line.values()] == [True] + [False] * 7


def test_each_repeat_begins_with_another_case() -> None:
    """The cases are the same ones, in another order."""
    orders = [
        Order.from_json(PARTS["rows"].launches(arguments(["rows", *SMALL]), turn)[0].argument).plan["cases"]
        for turn in range(3)
    ]
    assert len({tuple(cases[0]) for cases in orders}) == 3
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


def test_the_budget_is_the_budget() -> None:
    """Working sets grow to four times what fits, and never more than what fits is in memory."""
    runs = measured("residency")
    points = [point for point in runs[0]["points"] if point["pattern"] == "uniform"]
    assert [point["tasks"] for point in points] == [4, 8, 16, 32]
    assert [point["resident"] for point in points] == [4, 8, 8, 8]
    assert max(point["resident_bytes"] for point in points) == runs[0]["budget"]
    for chart in PARTS["residency"].charts(runs):
        assert chart.columns == ("0.5", "1", "2", "4")


def test_space_is_counted_for_every_kind() -> None:
    """Ten tasks take ten times one's bytes in memory, more on disk than one, and less than ten copies."""
    runs = measured("space")
    assert [run["label"] for run in runs] == list(KINDS)
    for run in runs:
        one, ten = run["points"]
        assert (one["tasks"], ten["tasks"]) == (1, 10)
        assert 0 < ten["resident"] == 10 * one["resident"] < 10 * run["checkpoint"]
        assert 0 < one["disk"] < ten["disk"]
    resident = PARTS["space"].charts(runs)[0]
    assert resident.rows["fine-tuned copies (computed)"]["10"].ratio is None
    # 4 positions of 2 layers' keys and values in bfloat16, and 4 rows in float32 and bfloat16
    shape = TINY.shape
    position = 2 * shape.layers * shape.kv_heads * (shape.hidden // shape.heads) * 2
    assert runs[1]["points"][0]["resident"] == TINY.length * (position + shape.hidden * (4 + 2))


def needs_int8() -> None:
    found = kernels(torch.bfloat16, torch.device("cpu"))
    if isinstance(found, str) or not found.int8:
        pytest.skip("no AVX512-VNNI kernels here")


def test_a_step_is_what_it_is_made_of() -> None:
    """Its clocked calls and the rest make the whole; each form that this machine has its own table."""
    needs_int8()
    runs = measured("step", "--concurrency", "1", "3")
    charts = PARTS["step"].charts(runs)
    assert [run["form"] for run in runs] == list(step.FORMS)
    for chart in charts:
        assert chart.columns == ("1", "3")
        for column in chart.columns:  # of one repeat, so the bests are of the same process
            parts = [line[column].best for name, line in chart.rows.items() if name not in {step.WHOLE, step.FLOOR}]
            assert sum(parts) == pytest.approx(chart.rows[step.WHOLE][column].best)
            assert chart.rows["products"][column].best > 0
    assert set(charts[0].rows) == {step.WHOLE, step.FLOOR, *step.CLOCKS, step.REST}
    assert "attention" not in charts[2].rows, "without kernels there is none to clock"


def test_eight_bits_are_measured_on_text(shared: Path) -> None:
    """Six corpora, four forms; coarser weights give other figures, and not far from float32's."""
    needs_int8()
    runs = measured("weights", "--data", str(shared / "data"))
    (chart,) = PARTS["weights"].charts(runs)
    assert len(chart.columns) == 6
    exact, coarse = chart.rows["float32"], chart.rows["float32, 8 bits"]
    assert all(0 < abs(coarse[name].best / exact[name].best - 1) < 0.02 for name in chart.columns)
    assert set(PARTS["weights"].notes(runs)) == {
        "bits per byte of 8 bits over float32's, the worst",
        "within the bar of 1.005",
    }


def test_a_part_is_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It measures in processes of its own and leaves data, page and picture; the last line is for machines."""
    words = ["tasks", *SMALL, "--counts", "1", "3", "--repeats", "1", "--out", str(tmp_path)]
    main(words)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    data = json.loads((tmp_path / "tasks.json").read_text())
    assert data["part"] == last["part"] == "tasks"
    assert data["figures"] == last["figures"]
    assert data["machine"]["command"] == f"python -m benchmarks {' '.join(words[:-1])} {tmp_path.name}"
    assert (tmp_path / "tasks.md").is_file()
    assert (tmp_path / "tasks.svg").is_file()


def test_without_a_name_it_is_the_mixed_workload() -> None:
    """`make bench ARGS=--tiny` goes on meaning what it meant."""
    assert arguments(["--tiny"]).part == arguments([]).part == "mixed"
    assert arguments(["http"]).part == "http"


def test_what_a_job_keeps_is_measured_by_the_size_of_a_pass() -> None:
    """A point for each size, and the line through them."""
    runs = measured("memory", "--positions", "64", "256")
    (chart,) = PARTS["memory"].charts(runs)
    assert chart.columns == ("64", "256")
    assert set(PARTS["memory"].notes(runs)) == {"MiB a position", "MiB of no position"}
