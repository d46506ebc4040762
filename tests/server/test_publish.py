"""The upload path beyond what HTTP shows: the canary, the first start, a fingerprint that is required."""

from pathlib import Path

import numpy as np
import pytest

from prompt_store.store import Store
from server.app import unpublished
from server.config import Settings
from server.engine.checkpoint import BadBase
from tests.models import save, tokenizer
from tests.server.site import Site, embeddings, peft_file
from tests.server.site import site as running


def test_the_canary_stops_what_every_check_let_through(tmp_path: Path) -> None:
    """Finite values within the bound, non-finite logits: refused, not stored, forgotten by the engine."""
    with running(save(tmp_path / "gpt2", "gpt2"), "memory://", max_norm=1e300) as site:
        data = peft_file(np.full((2, 64), 3e38))
        answer = site.http.put("/tasks/poison", content=data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "canary_failed")
        assert site.http.get("/tasks/poison").status_code == 404
        assert site.snapshot().resident_prompts == 0
        assert site.generate("play", max_new_tokens=2)["usage"]["completion_tokens"] == 2


def test_a_required_fingerprint_refuses_files_without_one(base_folder: Path) -> None:
    """The operator's choice: PEFT files say nothing of their base."""
    with running(base_folder, "memory://", require_fingerprint=True) as site:
        refused = site.http.put("/tasks/t", content=peft_file(np.ones((2, 64))))
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "wrong_base")
        assert site.http.put("/tasks/t", content=embeddings(site.base, "{text}", 2).data).status_code == 201


def test_a_published_task_is_resident_before_its_first_request(site: Site) -> None:
    """The upload waits for the store, the first request for nothing."""
    site.publish("warm", "play {text}", soft=4, seed=9)
    fed = site.snapshot().counters.rows_fed
    site.generate("x", "warm", max_new_tokens=1)
    assert site.snapshot().counters.rows_fed == fed
    assert site.http.get("/tasks/warm").json()["resident"] is True


def test_packaged_tasks_are_published_where_nothing_else_is(tmp_path: Path) -> None:
    """All on an empty store, the rest after a start that was cut short; none that was deleted, none beside others."""
    file = embeddings(None, "{text}", 2)
    paths = [tmp_path / f"{name}.safetensors" for name in ("demo", "other")]
    for path in paths:
        path.write_bytes(file.data)
    store = Store.open("memory://")
    assert unpublished(store, tmp_path) == paths
    store.publish("demo", file, verified=False, op_id="1")
    assert unpublished(store, tmp_path) == paths[1:]
    store.delete("demo", "2")
    assert unpublished(store, tmp_path) == paths[1:]
    store.publish("mine", file, verified=False, op_id="3")
    assert unpublished(store, tmp_path) == []


def test_a_packaged_task_that_does_not_fit_does_not_stop_the_start(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short context is the operator's choice: what fits is served."""
    (tmp_path / "long.safetensors").write_bytes(embeddings(None, "{text}", 60).data)
    (tmp_path / "short.safetensors").write_bytes(embeddings(None, "{text}", 2).data)
    monkeypatch.setattr("server.app.EMBEDDED_BASE", base_folder)
    monkeypatch.setattr("server.app.EMBEDDED_TASKS", tmp_path)
    with running(None, "memory://", max_total_tokens=40) as site:
        assert [task["id"] for task in site.http.get("/tasks").json()["data"]] == ["short"]


def test_the_embedded_base_brings_its_tasks(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an empty store, once; another base starts empty."""
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    (packaged / "demo.safetensors").write_bytes(embeddings(None, "play {text}", 2).data)
    monkeypatch.setattr("server.app.EMBEDDED_BASE", base_folder)
    monkeypatch.setattr("server.app.EMBEDDED_TASKS", packaged)
    with running(None, tmp_path / "store") as site:
        assert site.generate("x", "demo", max_new_tokens=1)["version"] == 1
        site.http.delete("/tasks/demo")
    with running(None, tmp_path / "store") as site:
        assert site.http.get("/tasks/demo").status_code == 404
    with running(base_folder, tmp_path / "other") as site:
        assert site.http.get("/tasks").json()["data"] == []


def test_a_tokenizer_larger_than_the_base_refuses_to_start(tmp_path: Path) -> None:
    """Ids without an embedding row would be read beyond the table."""
    folder = save(tmp_path / "base")
    larger = tokenizer()
    larger.add_tokens([f"<{number}>" for number in range(60)])
    larger.save(str(folder / "tokenizer.json"))
    with pytest.raises(BadBase), running(folder, "memory://"):
        pass


def test_no_embedded_base_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation without one names the option that helps."""
    monkeypatch.setattr("server.app.EMBEDDED_BASE", tmp_path / "none")
    assert Settings(store="memory://").embedded
    with pytest.raises(BadBase, match="--model"), running(None, "memory://"):
        pass
