"""What a GPU is measured with runs here too, on the little that there is beside a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from tests.checkout import ROOT

ABSENT = (
    "fastapi", "httpx", "jinja2", "matplotlib", "obstore", "peft", "prometheus_client", "pydantic", "rich", "sacrebleu",
    "starlette", "structlog", "typer", "uvicorn",
)  # fmt: skip
"""What a machine may lack where engine, tuning and prompt files are to be imported."""


def test_torch_transformers_safetensors_and_numpy_are_enough() -> None:
    """To measure, to check every family and kind against transformers, and to learn."""
    wanted = "benchmarks.gpu, benchmarks.gpu_measure, tests.server.engine.matrix, tuning, server.engine.learning"
    program = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\nimport {wanted}"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_every_peer_and_the_step_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU, tiny: each has a rate, the step stands beside its floor, and what was found is kept."""
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--shapes", "tiny", "--concurrency", "1", "3", "--repeats", "1", "--out", str(out)])
    told = capsys.readouterr().out
    runs = {run["what"]: run for run in json.loads(out.read_text(encoding="utf-8"))["runs"]}
    assert not [run["failed"] for run in runs.values() if "failed" in run]
    assert set(runs) == {gpu.STEP, *gpu.LABELS}
    assert all(run["rates"].keys() == {"1", "3"} for name, run in runs.items() if name != gpu.STEP)
    assert all(point["step"] > 0 and point["floor"] > 0 for point in runs[gpu.STEP]["points"])
    assert all(label in told for label in gpu.LABELS.values())
    assert "floor over step" in told


def test_who_fails_is_told_and_ends_nothing(tmp_path: Path) -> None:
    """Its last line stands in its place."""
    given = gpu._arguments(["--device", "cpu", "--shapes", "tiny", "--concurrency", "1"])
    told = gpu._measured("static", str(tmp_path / "nothing"), "tiny", given)
    assert told.keys() == {"failed"}
    lines = [
        *gpu.table(
            [{"shape": "tiny", "what": "static", **told}, {"shape": "tiny", "what": "engine", "rates": {"1": 5.0}}]
        )
    ]
    assert any("failed:" in line for line in lines)
    assert any(line.endswith("| 5 |") for line in lines)
