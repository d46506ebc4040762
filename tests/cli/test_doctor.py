"""`softprompt doctor` finds what a start would not, and says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from prompt_store.base import damaged, fingerprint, write_sums
from tests.cli.conftest import Softprompt
from tests.models import save
from tests.server.site import Site
from tests.server.site import site as running


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


Findings = dict[str, dict[str, Any]]
Found = Callable[..., tuple[int, Findings]]


@pytest.fixture
def found(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    """The exit code and the findings by what they are about, in an empty folder. In this process: torch is loaded."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, **variables: str) -> tuple[int, Findings]:
        runner = CliRunner(env={"SOFTPROMPT_URL": site.url, **variables})
        done = runner.invoke(app, ["doctor", *map(str, arguments), "--json"])
        return done.exit_code, {one["what"]: one for one in json.loads(done.stdout)}

    return run


def failed(findings: Findings) -> list[str]:
    return [what for what, one in findings.items() if one["good"] is False]


def test_a_machine_that_serves_is_told_on_a_screen_of_80_columns(
    softprompt: Softprompt, found: Found, site: Site, base_folder: Path
) -> None:
    """Machine, settings, base, memory, store and the server that answers; nothing is cut, nothing failed."""
    done = softprompt("doctor", "--model", base_folder, COLUMNS="80")
    assert done.returncode == 0, done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\u2026" not in done.stdout
    code, findings = found("--model", base_folder)
    assert (code, failed(findings)) == (0, [])
    wanted = {"machine", "CPU features", "preloads", "open files", "disk of the store", "memory", "base", "server"}
    assert wanted <= findings.keys()
    assert findings["server"]["good"]
    assert site.url in findings["server"]["answer"]


def test_what_a_setting_breaks_is_told_with_what_to_do(found: Found, base_folder: Path, tmp_path: Path) -> None:
    """One thing wrong at a time, and that alone fails."""
    (tmp_path / "file").write_text("")
    broken: tuple[tuple[str, list[str | Path], dict[str, str]], ...] = (
        ("variables", [], {"SOFTPROMPT_MODLE": "x"}),
        ("settings", [], {"SOFTPROMPT_PORT": "70000"}),
        ("base", ["--weights", "int8"], {"SOFTPROMPT_NATIVE": "false"}),
        ("base", ["--model", tmp_path], {}),
        ("memory", [], {"SOFTPROMPT_PROMPT_BUDGET": "100T"}),
        ("settings", ["--store", tmp_path / "file"], {}),
        ("server", ["--url", "here"], {}),
    )
    for what, arguments, variables in broken:
        model: list[str | Path] = [] if "--model" in arguments else ["--model", base_folder]
        code, findings = found(*model, *arguments, **variables)
        assert (code, failed(findings)) == (1, [what])
        assert findings[what]["advice"]


def test_a_server_that_is_not_there_is_no_fault(found: Found, base_folder: Path) -> None:
    """Doctor is for before the start too."""
    code, findings = found("--model", base_folder, "--url", "http://127.0.0.1:1")
    assert code == 0
    assert findings["server"]["answer"] == "none at http://127.0.0.1:1"
    assert findings["server"]["advice"]


def test_a_damaged_task_is_told_with_the_way_back(found: Found, base_folder: Path, tmp_path: Path) -> None:
    """`--verify` reads every current file of the store."""
    with running(base_folder, tmp_path / "store") as other:
        other.publish("hurt", "{input}")
        digest = other.publish("hurt", soft=2)["digest"]
    (blob,) = (path for path in (tmp_path / "store").rglob("*") if path.is_file() and digest in path.name)
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    code, findings = found("--model", base_folder, "--store", tmp_path / "store", "--verify")
    assert (code, failed(findings)) == (1, ["hurt"])
    assert findings["hurt"]["advice"] == (
        "softprompt fsck --repair --from BACKUP, or publish it again, or softprompt rollback hurt VERSION to a good one"
    )


@pytest.mark.parametrize("more", [(), ("--verify",)])
def test_a_manifest_that_is_garbage_is_told(
    found: Found, base_folder: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """A listing leaves the task out; here it is named, with the way back: no roll-back from an only version."""
    with running(base_folder, tmp_path / "store") as other:
        other.publish("good", soft=2)
        other.publish("hurt", soft=2)
    (manifest,) = (tmp_path / "store").rglob("hurt!/*.json")
    manifest.chmod(0o600)
    manifest.write_bytes(b"garbage")
    code, findings = found("--model", base_folder, "--store", tmp_path / "store", *more)
    assert (code, failed(findings)) == (1, ["hurt"])
    assert findings["hurt"]["advice"] == "softprompt fsck names the manifest to restore, or publish it again"


def test_a_bucket_that_is_down_is_told_with_what_names_it(found: Found, base_folder: Path) -> None:
    """Its address and keys are variables of the provider."""
    bucket = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    code, findings = found("--model", base_folder, "--store", "s3://bucket/folder", AWS_REGION="r", **bucket)
    assert (code, failed(findings)) == (1, ["store"])
    assert findings["store"]["answer"].startswith("s3://bucket/folder: ")
    assert findings["store"]["advice"] == "AWS_ENDPOINT_URL, AWS_REGION and the credentials: docs/buckets.md"
