"""`softprompt tune` as a process: what it writes, says and survives."""

import json
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.loading import load_base
from cli.main import app
from prompt_store.prompt import parse
from tests import forked, models
from tests.e2e.process import serving
from tests.tuning.conftest import LABELS, examples, write_rows
from tuning.encoding import encode
from tuning.files import encoder_of, soft_of
from tuning.scorer import BaseScorer

ROWS = "".join(f'{{"text": "{n}", "target": "x"}}\n' for n in range(9))
LONG = "200"
START = [sys.executable, "-c", "from cli.main import app; app()"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def files(model: Path, tmp_path: Path) -> tuple[Path, Path]:
    return model, tmp_path


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run of LONG steps writes that nobody stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    out = folder / "whole.safetensors"
    assert run(arguments(model, write_rows(folder / "rows.jsonl"), out, "--steps", LONG)).returncode == 0
    return out.read_bytes()


def arguments(model: Path, rows: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--model", str(model), "--template", r"{text}\nIntent:", "--out", str(out), "--threads", "1"]
    small = ["--steps", "24", "--batch-size", "8", "--eval-every", "6", "--length", "4"]
    return [*START, "tune", str(rows), *fixed, *small, *more]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return forked.run(command[len(START) :], 240, {})


def started(command: list[str]) -> forked.Forked:
    return forked.started(command[len(START) :], {})


def test_one_command_writes_a_prompt_file_its_report_and_lines_for_machines(model: Path, tmp_path: Path) -> None:
    """Labels are found, the curve is in the report, every line of --json is an object."""
    out = tmp_path / "new" / "intent.safetensors"
    done = run(arguments(model, write_rows(tmp_path / "rows.jsonl"), out, "--json"))
    assert done.returncode == 0, done.stderr
    metadata = parse(out.read_bytes()).metadata
    assert (metadata.labels, metadata.length, metadata.template) == (tuple(sorted(LABELS)), 4, "{text}\nIntent:")
    assert metadata.base is not None
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events].count("step") == 24
    assert {"loss", "examples_per_second", "seconds_left"} <= events[1].keys()
    assert events[-1]["event"] == "written"
    report = json.loads(out.with_suffix(".report.json").read_text(encoding="utf-8"))
    assert [point["step"] for point in report["curve"]] == [0, 6, 12, 18, 24]


def test_a_killed_run_resumes_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, `--resume`, and the file is the one that an undisturbed run writes."""
    rows = write_rows(tmp_path / "rows.jsonl")
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    assert run(arguments(model, rows, whole)).returncode == 0
    command = arguments(model, rows, killed, "--json", "--save-seconds", "0")
    with started(command) as process:
        steps = (json.loads(line).get("step") for line in process.stdout)
        assert 13 in steps
        process.kill()
    assert not killed.exists()
    resumed = run([*command, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    first = next(json.loads(line) for line in resumed.stdout.splitlines())
    assert first["step"] >= 12, "a run that began again proves nothing"
    assert killed.read_bytes() == whole.read_bytes()


def test_a_disk_without_room_is_told_on_the_way_and_at_the_end(model: Path, tmp_path: Path) -> None:
    """No file of its may be larger than a block: checkpoints first, then what was learnt."""
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "a.safetensors"
    command = [*arguments(model, rows, out, "--steps", "3"), "--save-seconds", "0", "--json"]
    little = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (512, 512))
    with forked.started(command[len(START) :], {}, before=little) as done:
        told, said = done.communicate(240)
    assert done.returncode == 2
    events = [json.loads(line) for line in told.splitlines()]
    assert [one["reason"] for one in events if one["event"] == "unsaved"] == ["File too large"] * 4
    assert f"{out} cannot be written: File too large; with room there" in said
    assert [path.name for path in tmp_path.glob("a.*")] == []


def test_a_stopped_run_is_saved_where_it_is(model: Path, tmp_path: Path, undisturbed: bytes) -> None:
    """SIGTERM ends it between two passes, whatever --save-seconds; `--resume` writes an undisturbed run's bytes."""
    rows = write_rows(tmp_path / "rows.jsonl")
    stopped = tmp_path / "stopped.safetensors"
    command = arguments(model, rows, stopped, "--steps", LONG, "--json", "--save-seconds", "3600")
    with started(command) as process:
        assert 7 in (json.loads(line).get("step") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGTERM
    assert "--resume goes on from here" in said
    assert not stopped.exists()
    resumed = run([*command, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[0])["step"] >= 7
    assert stopped.read_bytes() == undisturbed


def test_a_run_that_nobody_reads_any_more_is_saved(model: Path, tmp_path: Path, undisturbed: bytes) -> None:
    """As by SIGPIPE, and said on standard error; what `--out` links to is written, and the link stays one."""
    rows = write_rows(tmp_path / "rows.jsonl")
    linked, kept = tmp_path / "link.safetensors", tmp_path / "kept"
    linked.symlink_to(kept)
    command = arguments(model, rows, linked, "--steps", LONG, "--json", "--save-seconds", "3600")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert 7 in (json.loads(line).get("step") for line in process.stdout)
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=240)
    assert process.returncode == 128 + signal.SIGPIPE
    assert "--resume goes on from here" in said
    assert "Exception" not in said
    assert run([*command, "--resume"]).returncode == 0
    assert linked.is_symlink()
    assert kept.read_bytes() == undisturbed


@pytest.mark.parametrize("method", ["hard", "design"])
def test_a_search_that_is_stopped_goes_on(model: Path, tmp_path: Path, method: str) -> None:
    """Among several methods; what was asked before is not told again, and the file is an undisturbed run's."""
    rows, whole, stopped = write_rows(tmp_path / "rows.jsonl"), tmp_path / "whole", tmp_path / "stopped"
    more = ["--method", f"{method},prompt_tuning", "--keep-all", "--draws", "400", "--budget", "5000", "--json"]
    assert run(arguments(model, rows, whole, *more)).returncode == 0
    command = arguments(model, rows, stopped, *more)
    with started(command) as process:
        first = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGINT
    assert "--resume goes on from here" in said
    told = [*first, *map(json.loads, out.splitlines())]
    resumed = run([*command, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    searched = [one for one in map(json.loads, resumed.stdout.splitlines()) if one.get("run", "").startswith(method)]
    assert searched
    assert all(one not in told for one in searched)
    name = f".{method}-0-0.safetensors"
    assert (tmp_path / f"stopped{name}").read_bytes() == (tmp_path / f"whole{name}").read_bytes()


def test_a_checkpoint_of_other_settings_says_which(model: Path, tmp_path: Path) -> None:
    """Each by its name."""
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "a.safetensors"
    assert run(arguments(model, rows, out)).returncode == 0
    other = run(arguments(model, rows, out, "--resume", "--learning-rate", "7", "--warmup", "3"))
    assert other.returncode == 2
    assert "belongs to a run with other learning_rate, warmup" in other.stderr


def test_what_is_odd_is_said_beside_the_work(files: tuple[Path, Path]) -> None:
    """No checkpoint to resume, one target for all rows, a search that begins with nothing; and no noise besides."""
    model, folder = files
    (folder / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    done = run(arguments(model, folder / "rows.jsonl", folder / "a", "--resume", "--method", "hard", "--budget", "200"))
    assert done.returncode == 0, done.stderr
    for said in ("there is no checkpoint of this beside", "every row has the same target", "hard begins with no words"):
        assert done.stderr.count(said) == 1
    assert "Loading weights" not in done.stderr


def test_a_run_that_did_not_end_is_not_begun_anew_in_silence(files: tuple[Path, Path]) -> None:
    """And a search that ends says with what."""
    model, folder = files
    rows, out = write_rows(folder / "rows.jsonl"), folder / "said.safetensors"
    search = ("--method", "hard", "--budget", "2000", "--instructions", "Say it")
    (folder / "said.checkpoint.safetensors").write_bytes(b"")
    for begun_anew in (True, False):
        done = run(arguments(model, rows, out, *search))
        assert done.returncode == 0, done.stderr
        assert ("of a run that did not end: it is begun anew" in done.stderr) == begun_anew
        assert "the template is '" in done.stderr


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ('{"text": "a"}\n', [], "line 1: field 'target' is missing"),
        ('{"text": "a", "target": "x"}\n' * 9, [], "at least two different inputs"),
        (ROWS, ["--labels", "y,z"], "line 1: the target is none of the labels\n  and the other 8 likewise\n"),
        (ROWS, ["--objective", "labels"], "the objective labels needs labels"),
        (ROWS, ["--init", "labels"], "only a task with labels can start from them"),
        (ROWS, ["--metric", "luck"], "the metric must be one of accuracy"),
        (ROWS, ["--template", "{text"], "at character 0"),
        (ROWS, ["--description", "d" * 5000], "description"),
        (ROWS, ["--target-delimiter", " " * 65], "target_delimiter"),
        (ROWS, ["--push", "a/b"], "no task can have this name"),
        (ROWS, ["--labels", "none", "--max-new-tokens", "5000"], "do not fit the base's context of 256"),
        ('{"text": "\\ud800", "target": "x"}\n', [], "line 1: field 'text' holds half a surrogate pair"),
        ('{"text": 1' + "0" * 5000 + ', "target": "x"}\n', [], "line 1: not JSON: a number of too many digits"),
        ('{"text": "a", "text": "b", "target": "x"}\n', [], "line 1: a field stands twice"),
        (ROWS, ["--template", "{soft:3}{text}"], "the length is 4, but the template's slots add up to 3"),
    ],
)
def test_what_cannot_be_learnt_is_said_in_a_sentence(
    files: tuple[Path, Path], rows: str, more: list[str], said: str
) -> None:
    """Exit code 2, the reason on standard error, no trace and no file."""
    model, folder = files
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    out = folder / "out.safetensors"
    done = CliRunner().invoke(app, arguments(model, folder / "rows.jsonl", out, *more)[len(START) :])
    assert done.exit_code == 2
    assert said in done.stderr
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_said_before_learning(files: tuple[Path, Path]) -> None:
    """A directory, links that lead nowhere, a place of one run among several, and a checkpoint that is none."""
    model, folder = files
    rows = write_rows(folder / "rows.jsonl")
    same = run([*arguments(model, rows, rows)])
    assert (same.returncode, "holds the rows to learn from" in same.stderr) == (2, True)
    (folder / "taken").mkdir()
    (folder / "round").symlink_to("round")
    (folder / "away").symlink_to(folder / "nowhere" / "file")
    (folder / "all.design-1.checkpoint.safetensors").mkdir()
    (folder / "kept.design-0-0.safetensors").mkdir()
    design = ("--method", "design", "--draws", "1", "--shots", "2")
    for name, *more in [
        ("taken",),
        ("round",),
        ("away",),
        ("all", *design, "--seeds", "2"),
        ("kept", *design, "--keep-all"),
    ]:
        done = CliRunner().invoke(app, arguments(model, rows, folder / name, *more)[len(START) :])
        assert (done.exit_code, "cannot be written" in done.stderr) == (2, True)
    (folder / "new.checkpoint.safetensors").write_text("none")
    done = CliRunner().invoke(app, arguments(model, rows, folder / "new.safetensors", "--resume")[len(START) :])
    assert (done.exit_code, "is not a checkpoint" in done.stderr) == (2, True)


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix_tuning", "llama_adapter", "design", "hard"])
def test_a_pushed_task_is_served_as_it_was_learnt(files: tuple[Path, Path], method: str) -> None:
    """`--push` publishes; `/classify` gives the log-probabilities that learning compared, rows behind the field too."""
    model, folder = files
    out, rows = folder / "intent.safetensors", write_rows(folder / "rows.jsonl")
    with serving("--model", str(model), "--store", "memory://") as (process, client):
        template = ["--template", "{soft:3}{text} is{soft:1}", "--push", "intent", "--url", process.url]
        more = ["--method", method, "--budget", "1200", "--draws", "2", "--shots", "2"]
        done = CliRunner().invoke(app, arguments(model, rows, out, *template, *more)[len(START) :])
        assert done.exit_code == 0, done.output
        inputs = [example.inputs["text"] for example in examples(6)]
        body = {"requests": [{"task": "intent", "inputs": text} for text in inputs]}
        responses = client.post("/classify", json=body).json()["responses"]
    base, file = load_base(str(model), "cpu", 1, None), parse(out.read_bytes())
    labels = file.metadata.labels
    assert labels is not None
    batch = encode(examples(6), encoder_of(base, file, labels), base.context)
    found = BaseScorer(base, soft_of(base, file)).likelihoods(batch)
    for response, row in zip(responses, found, strict=True):
        served = {score["label"]: score["logprob"] for score in response["scores"]}
        assert [served[label] for label in labels] == pytest.approx(row, rel=1e-4)
