"""Several methods, lengths and seeds in one command; the page; and files judged again by `softprompt eval`."""

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.report import best_rows
from cli.watching import dumps
from prompt_store.prompt import parse
from tests import models
from tests.tuning.conftest import LABELS, examples, write_rows
from tuning.compare import ALL, Cell, Comparison, Result

QUICK = ["--steps", "4", "--batch-size", "8", "--eval-every", "2", "--threads", "1", "--budget", "1200", "--draws", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("model"))


def tuned(model: Path, rows: Path, out: Path, *more: str) -> tuple[str, str]:
    fixed = ["tune", str(rows), "--model", str(model), "--out", str(out), *QUICK]
    done = CliRunner().invoke(app, [*fixed, "--template", r"{text}\nIntent:", *more])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_all_methods_are_compared_on_ones_own_data(model: Path, tmp_path: Path) -> None:
    """Every method has its row, with error bars; the best that is served is written; the page needs nothing else."""
    out = tmp_path / "best.safetensors"
    more = ["--method", "all", "--seeds", "2", "--length", "2", "--keep-all"]
    said, shown = tuned(model, write_rows(tmp_path / "rows.jsonl"), out, *more)
    assert len(said.splitlines()) == 1
    table = [line.split() for line in shown.partition("Held-out accuracy")[2].splitlines()]
    assert all(sum(name in line for line in table) == 1 for name in ALL), "a row each"
    report = json.loads(out.with_suffix(".report.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in report["table"]] == list(ALL)
    assert all(row["seeds"] == 2 and row["deviation"] is not None for row in report["table"])
    served = [run for run in report["runs"] if run["method"] not in {"lora", "bottleneck_adapter", "fine_tuning"}]
    best = parse(out.read_bytes()).metadata.metrics["held_out_accuracy"]
    assert best == max(run["figures"]["accuracy"] for run in served)
    kept = sorted(path.name for path in tmp_path.glob("best.*.safetensors") if "checkpoint" not in path.name)
    assert kept == sorted(f"best.{run['method']}-{run['length']}-{run['seed']}.safetensors" for run in served)
    page = out.with_suffix(".report.html").read_text(encoding="utf-8")
    assert all(name in page for name in (*ALL, *LABELS))
    assert page.count("<svg") == 2
    assert not any(word in page for word in ("<script", "src=", "@import", "url(http"))


def test_what_cannot_be_written_is_seen_beforehand(model: Path, tmp_path: Path) -> None:
    """A directory in the way of one of all files, of the report, the page or a checkpoint; a pipe; too long a name."""
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "a.safetensors"
    fixed = ["tune", str(rows), "--model", str(model), "--template", "{text}", "--length", "2", *QUICK]
    (tmp_path / "a.prompt_tuning-2-0.safetensors").mkdir()
    done = CliRunner().invoke(app, [*fixed, "--out", str(out), "--keep-all"])
    assert (done.exit_code, "cannot be written" in done.stderr, out.exists()) == (2, True, False)
    for number, suffix in enumerate((".report.json", ".report.html", ".checkpoint.safetensors")):
        (tmp_path / f"b{number}{suffix}").mkdir()
        done = CliRunner().invoke(app, [*fixed, "--out", str(tmp_path / f"b{number}.safetensors")])
        assert (done.exit_code, "cannot be written" in done.stderr, "step" in done.output) == (2, True, False)
    os.mkfifo(tmp_path / "pipe")
    done = CliRunner().invoke(app, [*fixed, "--out", str(tmp_path / "pipe")])
    assert (done.exit_code, "cannot be written" in done.stderr, (tmp_path / "pipe").is_fifo()) == (2, True, True)
    long = CliRunner().invoke(app, [*fixed, "--out", str(tmp_path / ("n" * 200))])
    assert (long.exit_code, "a name of at most" in long.stderr) == (2, True)


def test_a_checkpoint_of_another_comparison_is_not_taken_for_ones_own(model: Path, tmp_path: Path) -> None:
    """One method and several keep theirs in other places: that it begins anew is said."""
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "a.safetensors"
    tuned(model, rows, out, "--length", "2")
    _, said = tuned(model, rows, out, "--length", "2", "--method", "prompt_tuning,prefix_tuning", "--resume")
    assert "begins anew" in said
    _, said = tuned(model, rows, out, "--length", "2", "--method", "prompt_tuning,prefix_tuning", "--resume")
    assert "begins anew" not in said


def results(*figures: tuple[str, float, float, int]) -> list[Result]:
    """Of methods: accuracy, loss and size."""
    file: Any = object()
    return [
        Result(Cell(name, 2, 0), {"accuracy": accuracy, "loss": loss}, 1, 0.1, size, 1.0, [], file, {})  # type: ignore[arg-type]  # a str
        for name, accuracy, loss, size in figures
    ]


def test_of_equal_ones_the_one_that_is_surer_is_chosen() -> None:
    """Then the smaller."""
    nothing: Any = None
    settings: Any = SimpleNamespace(metric="accuracy")
    run = Comparison(nothing, nothing, settings, nothing, [], [], [], [], [])
    run.results = results(("p_tuning", 0.8, 0.7, 10), ("prefix_tuning", 0.8, 0.4, 90), ("prompt_tuning", 0.8, 0.4, 20))
    assert run.chosen().cell.method == "prompt_tuning"


def test_what_is_no_number_is_null_for_machines() -> None:
    """JSON has no NaN."""
    told = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}}
    assert json.loads(dumps(told), parse_constant=None) == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_where_less_is_better_the_page_draws_the_least() -> None:
    """Of the lengths of one method."""
    table = [{"method": "prompt_tuning", "length": length, "x": x} for length, x in ((1, 50.0), (2, 40.0), (4, 90.0))]
    for metric, length in (("ter", 2), ("bleu", 4)):
        rows = [{**row, metric: row["x"]} for row in table]
        assert best_rows(rows, metric)["prompt_tuning"]["length"] == length


def test_what_a_base_cannot_learn_by_is_left_out_of_all(tmp_path: Path) -> None:
    """And said; asked for by its name it is refused, before anything is learnt."""
    model, rows, out = models.save(tmp_path / "gpt2", "gpt2"), write_rows(tmp_path / "rows.jsonl"), tmp_path / "a"
    fixed = ["tune", str(rows), "--model", str(model), "--template", "{text}", "--out", str(out), *QUICK]
    done = CliRunner().invoke(app, [*fixed, "--length", "2", "--method", "all"])
    assert done.exit_code == 0, done.output
    assert "left out: llama_adapter learns on llama" in done.stderr
    report = json.loads(out.with_suffix(".report.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in report["table"]] == [name for name in ALL if name != "llama_adapter"]
    refused = CliRunner().invoke(app, [*fixed, "--method", "prompt_tuning,llama_adapter"])
    assert (refused.exit_code, "step" in refused.output) == (2, False)
    long = CliRunner().invoke(app, [*fixed, "--method", "prompt_tuning", "--lengths", "2,300"])
    assert (long.exit_code, "step" in long.output) == (2, False)


def test_a_yardstick_alone_says_that_there_is_no_file(model: Path, tmp_path: Path) -> None:
    """And leaves whatever stood there; runs with names of their own have reports of their own."""
    rows = write_rows(tmp_path / "rows.jsonl")
    for name in ("a.v1", "a.v2"):
        (tmp_path / name).write_text("mine")
        tuned(model, rows, tmp_path / name, "--method", "lora")
        assert (tmp_path / name).read_text() == "mine"
        assert (tmp_path / f"{name}.report.json").exists()
    fixed = ["tune", str(rows), "--model", str(model), "--template", "{text}", "--out", str(tmp_path / "b"), *QUICK]
    done = CliRunner().invoke(app, [*fixed, "--method", "lora"])
    assert "there is no prompt file" in done.stderr
    assert str(tmp_path / "b,") not in done.stdout


def test_what_a_file_says_of_its_answers_is_heeded(model: Path, tmp_path: Path) -> None:
    """`eval` stops and ends where the server would: a free text's figures are those it was kept for."""
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "a.safetensors"
    more = ["--method", "design", "--labels", "none", "--max-new-tokens", "5", "--metric", "chrf"]
    tuned(model, rows, out, *more, "--eval", str(rows))
    done = CliRunner().invoke(app, ["eval", str(rows), str(out), "--model", str(model), "--metrics", "chrf", "--json"])
    kept = parse(out.read_bytes()).metadata.metrics["held_out_chrf"]
    assert json.loads(done.stdout)[str(out)]["chrf"] == pytest.approx(kept)


def test_lengths_draw_the_figure(model: Path, tmp_path: Path) -> None:
    """A row a length and method; rows behind the text move in front where a length is not the template's."""
    out = tmp_path / "a.safetensors"
    more = [
        "--method",
        "prompt_tuning,prefix_tuning",
        "--lengths",
        "1,2,5",
        "--labels",
        "none",
        "--max-new-tokens",
        "3",
    ]
    tuned(model, write_rows(tmp_path / "rows.jsonl"), out, *more)
    report = json.loads(out.with_suffix(".report.json").read_text(encoding="utf-8"))
    assert [row["length"] for row in report["table"]] == [1, 2, 5, 1, 2, 5]
    page = out.with_suffix(".report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "Held-out answers" in page
    assert "pseudo-tokens" in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--method", "luck"], "--method: luck is none of all, design, hard"),
        (["--lengths", "1,x"], "--lengths: numbers with commas between"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(model: Path, tmp_path: Path, more: list[str], said: str) -> None:
    """Before anything is learnt."""
    rows = write_rows(tmp_path / "rows.jsonl")
    fixed = ["tune", str(rows), "--model", str(model), "--template", "{text}", "--out", str(tmp_path / "a")]
    done = CliRunner().invoke(app, [*fixed, *more])
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_file_judged_again_has_the_figures_it_was_kept_for(model: Path, tmp_path: Path) -> None:
    """Of every kind, from JSON lines and from CSV; several files are heard as one."""
    held_out = tmp_path / "held_out.csv"
    with held_out.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["text", "target"])
        writer.writerows([one.inputs["text"], one.target] for one in examples(10))
    rows, outs = write_rows(tmp_path / "rows.jsonl"), []
    for method in ("prompt_tuning", "prefix_tuning", "llama_adapter", "design"):
        outs.append(tmp_path / f"{method}.safetensors")
        tuned(model, rows, outs[-1], "--method", method, "--eval", str(held_out), "--length", "2")
    again = tmp_path / "again.safetensors"
    tuned(model, rows, again, "--eval", str(held_out), "--length", "3", "--seed", "5")
    fixed = ["eval", str(held_out), *map(str, outs), "--model", str(model), "--threads", "1"]
    done = CliRunner().invoke(app, [*fixed, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    for out in outs:
        metrics = parse(out.read_bytes()).metadata.metrics
        assert found[str(out)]["accuracy"] == metrics["held_out_accuracy"]
        assert found[str(out)]["loss"] == pytest.approx(metrics["held_out_loss"], rel=1e-4)
    pair = ["eval", str(held_out), str(outs[0]), str(again), "--model", str(model), "--threads", "1", "--json"]
    done = CliRunner().invoke(app, [*pair, "--ensemble", "mean"])
    assert 0 <= json.loads(done.stdout)["all, by mean"]["accuracy"] <= 1
    mixed = CliRunner().invoke(app, [*fixed, "--ensemble", "vote"])
    assert (mixed.exit_code, "one kind" in mixed.stderr) == (2, True)
