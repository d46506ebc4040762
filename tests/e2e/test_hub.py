"""`--model` takes a Hub id: huggingface_hub's own client fetches it from a server that answers as the Hub does."""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.hub import COMMIT, NAME, Hub, hub
from tests.e2e.process import COMMAND, serving


def variables(server: Hub, cache: Path, *, offline: bool = False) -> dict[str, str]:
    told = {"HF_ENDPOINT": server.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return {**told, "HF_HUB_OFFLINE": "1" if offline else "0"}


@pytest.fixture
def published(base_folder: Path, tmp_path: Path) -> Path:
    """The base as somebody published it: with pickled weights and code beside the files that are safe."""
    folder = shutil.copytree(base_folder, tmp_path / "published")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_own.py").write_text("raise SystemExit\n")
    return folder


def answer(client: httpx.Client) -> str:
    body = {"inputs": "play some jazz", "parameters": {"max_new_tokens": 12}}
    found = client.post("/generate", json=body)
    assert found.status_code == 200, found.text
    text: str = found.json()["generated_text"]
    return text


def test_a_hub_id_answers_as_its_directory_does(published: Path, tmp_path: Path) -> None:
    """Fetched by name, pinned to the commit, without its pickled weights and code; found again without the Hub."""
    with serving("--model", str(published), "--store", str(tmp_path / "a")) as (_, client):
        wanted = answer(client)
    cache = tmp_path / "cache"
    with hub(published) as server:
        options = ("--model", NAME, "--store", str(tmp_path / "b"))
        with serving(*options, "--revision", "main", **variables(server, cache)) as (_, client):
            assert answer(client) == wanted
            assert client.get("/info").json()["model"] == NAME
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(server.fetched)
        assert not {"pytorch_model.bin", "modeling_own.py"} & set(server.fetched)
        away = variables(server, cache, offline=True)
    assert [folder.name for folder in cache.rglob("snapshots/*")] == [COMMIT]
    with serving(*options, **away) as (_, client):
        assert answer(client) == wanted


@pytest.mark.parametrize(("name", "cut"), [("somebody/else", False), (NAME, True)])
def test_a_hub_id_that_cannot_be_had_is_one_line(published: Path, tmp_path: Path, name: str, *, cut: bool) -> None:
    """Unknown, or a connection that ends half-way: the message names the option and the id, no traceback."""
    with hub(published) as server:
        server.cut = cut
        command = [str(COMMAND), "serve", "--model", name, "--store", str(tmp_path)]
        found = subprocess.run(
            command, capture_output=True, text=True, env=variables(server, tmp_path / "c"), timeout=120, check=False
        )
    assert found.returncode == 2
    assert f"--model {name}" in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr
