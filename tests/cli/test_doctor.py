"""`softprompt doctor` finds what a start would not: bytes in the middle of a tensor."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from prompt_store.base import damaged, fingerprint, write_sums
from tests.models import save


def doctor(base: Path, store: Path) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["doctor", "--verify", "--model", str(base), "--store", str(store)]
    )
    return result.exit_code, result.output


def test_a_flip_inside_a_tensor_is_found(tmp_path: Path) -> None:
    """The fingerprint reads the ends of each tensor; the recorded sums the whole of every file."""
    base = save(tmp_path / "base")
    assert "SHA256SUMS" in doctor(base, tmp_path / "store")[1]
    write_sums(base)
    assert doctor(base, tmp_path / "store")[0] == 0
    before, weights = fingerprint(base), base / "model.safetensors"
    data = bytearray(weights.read_bytes())
    header = int.from_bytes(data[:8], "little")
    start, end = json.loads(data[8 : 8 + header])["model.embed_tokens.weight"]["data_offsets"]
    data[8 + header + (start + end) // 2] ^= 1
    weights.write_bytes(data)
    assert fingerprint(base) == before
    code, output = doctor(base, tmp_path / "store")
    assert (code, "damaged: model.safetensors" in output) == (1, True)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_gone_is_damaged(tmp_path: Path, name: str) -> None:
    """As is one that was changed."""
    base = save(tmp_path / "base")
    assert damaged(base) is None
    write_sums(base)
    assert damaged(base) == []
    (base / name).unlink()
    assert damaged(base) == [name]
