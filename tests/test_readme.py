"""README.md: its tree is the disk's, and its commands, and those of the first documents, run as written."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.checkout import ROOT, files, text

README = text(Path("README.md"))
TREE = README.split("## Where things are\n\n```\n", 1)[1].split("\n```\n", 1)[0]
RUN = ("README.md", "docs/quickstart.md", "docs/upload.md")
SECONDS = 240


def listed() -> Iterator[tuple[str, str]]:
    """(path, purpose) of every line of the tree; a folder's path ends in a slash."""
    parents: list[str] = []
    for line in TREE.splitlines():
        found = re.fullmatch(r"((?:  )*)(\S+) {2,}(\S.*)", line)
        assert found, f"not a line of the tree: {line}"
        depth = len(found[1]) // 2
        path = "".join(parents[:depth]) + found[2]
        parents[depth:] = [found[2]]
        yield path, found[3]


def blocks(document: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", text(Path(document)), re.DOTALL)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `make serve`, as the README says it, answers; on a free port and a store of its own."""
    store = tmp_path_factory.mktemp("readme") / "store"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "ARGS"))}
    environment["SOFTPROMPT_JOBS"] = str(store / "jobs")
    command = ["make", "serve", "PORT=0", f"STORE={store}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        assert server.stderr is not None
        said: list[str] = []
        url = next((json.loads(line)["url"] for line in kept(server.stderr, said) if '"ready"' in line), None)
        assert url, "".join(said)
        rest = threading.Thread(target=said.extend, args=(server.stderr,))
        rest.start()
        try:
            yield url.removeprefix("http://")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            rest.join()


def kept(lines: Iterable[str], said: list[str]) -> Iterator[str]:
    for line in lines:
        said.append(line)
        yield line


@pytest.fixture(scope="module")
def workplace(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout, with the two files that docs/upload.md takes as given."""
    folder = tmp_path_factory.mktemp("workplace")
    for entry in ("docs", "server", ".venv", "Makefile"):
        (folder / entry).symlink_to(ROOT / entry)
    (folder / "build").mkdir()
    base = json.loads((ROOT / "server/default/base/config.json").read_text(encoding="utf-8"))
    rows = np.full((4, base["hidden_size"]), 0.01, np.float32)
    save_file({"prompt_embeddings": rows}, folder / "adapter_model.safetensors")
    mine = f"http://{address}/tasks/intent/versions/1/prompt"
    subprocess.run(["curl", "-sf", mine, "-o", str(folder / "my-task.safetensors")], check=True)
    return folder


def test_the_tree_is_the_disks() -> None:
    """Every file is listed once or lies in a listed folder without lines of its own, and every listed path is there."""
    paths = [path for path, _ in listed()]
    assert len(paths) == len(set(paths))
    whole = tuple(path for path in paths if path.endswith("/") and sum(p.startswith(path) for p in paths) == 1)
    unlisted = [f for f in map(str, files()) if f not in paths and not f.startswith(whole) and "__init__" not in f]
    assert not unlisted
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_a_run_is_shown_early() -> None:
    """`make serve` and a request to it stand in the first 25 lines."""
    first = "\n".join(README.splitlines()[:24])
    assert "\nmake serve\n" in first
    assert "localhost:8000/generate" in first


def test_make_has_every_target_that_is_named() -> None:
    """Whatever a document says after `make` is a target."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", text(Path("Makefile")), re.MULTILINE))
    documents = [text(file) for file in files() if file.suffix == ".md"]
    named = {name for document in documents for name in re.findall(r"`make ([a-z][a-z-]*)", document)}
    assert named
    assert named <= targets


def test_what_to_edit_exists() -> None:
    """Paths in "To change X, edit Y; its test is Z" are there."""
    section = README.split("its test is Z\n", 1)[1].split("\n## ", 1)[0]
    paths = [path for path in re.findall(r"`([^` ]+)`", section) if "/" in path]
    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.parametrize("document", RUN)
def test_commands_run_as_written(document: str, address: str, workplace: Path) -> None:
    """Every command after `make serve` succeeds, and no answer is an error."""
    for block in blocks(document):
        if block.strip() == "make serve":
            continue
        script = "set -eu\n" + block.replace("localhost:8000", address)
        done = subprocess.run(
            ["sh", "-c", script], cwd=workplace, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        assert '"error"' not in done.stdout, done.stdout
