"""Cells are named apart, a run writes one file each and goes on, the page shows what is there."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from experiments import run as running
from experiments.cells import BASES, ENDS, METHODS, SEEDS, SIZED, TABLES, Cell, cells, estimate, groups, shown
from experiments.data import SUBJECTS, TEST, Rows, rows
from experiments.report import load, methods_table, write
from experiments.run import Place, run
from server.config import EMBEDDED_BASE
from tuning.loading import load as load_base


def test_every_cell_has_a_name_of_its_own() -> None:
    """And all of a group learn on one base, from one data set, by one method."""
    found = list(cells())
    assert len({cell.name for cell in found}) == len(found)
    assert {cell.table for cell in found} == set(TABLES)
    for group in groups(found):
        assert len({(cell.data, cell.base, cell.method) for cell in group}) == 1
    assert 4 < estimate(found) / 2 < 5, "hours on two cores"


def test_rows_to_be_judged_on_are_the_same_for_all(shared: Path) -> None:
    """A smaller part to learn from lies within a larger one; nothing is in two parts."""
    few, many = (rows(shared / "data", "snips", most) for most in (50, 500))
    assert set(map(str, few.train)) <= set(map(str, many.train))
    assert few.test == many.test
    assert len(few.test) == TEST
    assert not set(map(str, many.train)) & set(map(str, [*many.held_out, *many.test]))
    assert all(subject.template.count("{") == 1 for subject in SUBJECTS.values())


def test_sizes_are_compared_with_what_the_methods_reached() -> None:
    """On the base that both have, nothing is learnt twice."""
    there = {(cell.data, cell.method, cell.base, cell.seed) for cell in cells() if shown(cell, "sizes")}
    assert there == set(product(SIZED, ENDS, BASES, SEEDS))


@pytest.fixture
def place(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(running, "STEPS", 4)
    monkeypatch.setattr(running, "EVERY", 2)
    monkeypatch.setattr(running, "SEARCH", replace(running.SEARCH, scored=100, judged=4, searched=8))
    (tmp_path / "results").mkdir()
    (tmp_path / "scratch").mkdir()
    return Place(
        shared / "data", tmp_path / "results", tmp_path / "scratch", lambda _: load_base(EMBEDDED_BASE), "float32"
    )


@pytest.mark.parametrize("method", METHODS)
def test_each_cell_writes_one_file_once(place: Place, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every method; what is there is not done again."""
    monkeypatch.setattr(running, "rows", _few)
    group = [Cell("methods", "sentiment", "8m", method, rows=20, length=2, seed=seed) for seed in (0, 1)]
    for some in groups(group):
        list(run(some, place))
    files = sorted(place.results.glob("*.json"))
    assert [json.loads(file.read_text())["cell"]["seed"] for file in files] == [0, 1]
    assert all(0 <= json.loads(file.read_text())["test"]["accuracy"] <= 1 for file in files)
    before = [file.stat().st_mtime_ns for file in files]
    assert not [event for some in groups(group) for event in run(some, place)]
    assert [file.stat().st_mtime_ns for file in files] == before
    assert "| sentiment |" in methods_table(load(place.results))


def _few(root: Path, name: str, most: int) -> Rows:
    whole = rows(root, name, most)
    return Rows([*whole.train[:most]], [*whole.held_out[:6]], [*whole.test[:6]])


def test_the_page_shows_the_results_that_are_there(tmp_path: Path) -> None:
    """Tables stand between their markers, however often they are written; the words around them stay."""
    folder = tmp_path / "results"
    folder.mkdir()
    for length, seed in [(1, 0), (1, 1), (5, 0)]:
        cell = Cell("lengths", "snips", "8m", "prompt_tuning", length=length, seed=seed)
        data = {"cell": {name: getattr(cell, name) for name in Cell.__slots__}, "test": {"accuracy": 0.5 + 0.1 * seed}}
        (folder / f"{cell.name}.json").write_text(json.dumps(data))
    page = tmp_path / "page.md"
    page.write_text("Words.\n<!-- methods -->\n<!-- end -->\n<!-- lengths -->\n<!-- end -->\nMore.\n")
    for _ in range(2):
        write(load(folder), page)
    text = page.read_text()
    assert text.startswith("Words.")
    assert text.count("| snips, prompt_tuning | 0.550 ± 0.071 | – | 0.500 |") == 1
    assert (tmp_path / "page" / "lengths.svg").read_text().startswith("<?xml")
