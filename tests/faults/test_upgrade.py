"""Row X7: one store, an older server and a newer one. `format_1` is what the first commit that had a store wrote."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from prompt_store.errors import Corrupt, StoreUnsuitable
from prompt_store.keys import manifest_key
from prompt_store.local import TEMPORARY
from prompt_store.manifest import FORMAT
from prompt_store.marker import MARKER
from prompt_store.store import Store
from tests.faults.operations import history
from tests.prompt_store.make import put, text_task
from tests.server.site import site

FIRST = Path(__file__).parent / "format_1"
EVENTS = {
    "learnt": ["publish", "publish", "rollback", "publish"],
    "written": ["publish"],
    "gone": ["publish", "delete"],
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(FIRST, tmp_path / "store"))


def kept(store: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and when they were written."""
    files = (path for path in store.rglob("*") if path.is_file() and TEMPORARY not in str(path))
    return {str(path.relative_to(store)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_x7_what_the_first_store_wrote_is_read_and_not_rewritten(base_folder: Path, old: Path) -> None:
    """Every version of every event; a server runs both tasks; not a byte of it is written again."""
    before = kept(old)
    store = Store.open(str(old))
    assert {name: [event for event, _ in history(store, name)] for name in EVENTS} == EVENTS
    assert next(digest for _, digest in history(store, "learnt")) == store.get("learnt", 3).digest
    with site(base_folder, old) as running:
        assert {task["id"] for task in running.http.get("/tasks").json()["data"]} == {"learnt", "written"}
        for task in ("learnt", "written"):
            assert running.generate("some jazz", task, max_new_tokens=2)["version"] == len(EVENTS[task])
        assert running.http.get("/tasks/gone").status_code == 404
    assert kept(old) == before


def test_x7_what_is_written_now_has_the_shape_of_then(old: Path) -> None:
    """So the older server reads it as well: the same keys, and nothing of before is touched."""
    before = kept(old)
    put(Store.open(str(old)), "learnt", text_task("new {input}"))
    after = kept(old)
    assert {path: after[path] for path in before} == before
    first, last = (json.loads((old / manifest_key("learnt", number)).read_text()) for number in (1, 5))
    assert first.keys() == last.keys()
    assert first["format"] == last["format"] == FORMAT == 1
    assert first["metadata"].keys() >= last["metadata"].keys()


def test_x7_a_store_of_a_newer_format_is_refused_in_one_line(old: Path) -> None:
    """By its marker; nothing is written to it."""
    (old / MARKER).write_text('{"format":2}\n')
    before = kept(old)
    with pytest.raises(StoreUnsuitable, match="another format"):
        Store.open(str(old))
    result = CliRunner().invoke(app, ["tasks", "--store", str(old)])
    assert result.exit_code != 0
    assert "another format than this server reads" in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
    assert kept(old) == before


def test_x7_a_version_of_a_newer_format_is_named_as_that(base_folder: Path, old: Path) -> None:
    """Its task is 503 `corrupt`, the others are served."""
    file = old / manifest_key("learnt", 4)
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(Corrupt, match="another format"):
        Store.open(str(old)).current("learnt")
    with site(base_folder, old) as running:
        answer = running.http.post("/generate", json={"task": "learnt", "inputs": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "corrupt")
        assert running.generate("x", "written", max_new_tokens=1)["version"] == 1
