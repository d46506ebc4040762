"""Another base under the same store: row T8."""

import shutil
from pathlib import Path

import numpy as np

from tests.models import save
from tests.server.site import Site, peft_file
from tests.server.site import site as running


def code(site: Site, task: str) -> str:
    answer = site.http.post("/generate", json={"task": task, "inputs": "x", "parameters": {"max_new_tokens": 1}})
    return f"{answer.status_code} {answer.json()['error']['code']}" if answer.is_error else str(answer.status_code)


def test_t8_prompts_of_the_base_that_was_there_before_are_refused_not_garbage(tmp_path: Path) -> None:
    """The folder of the base holds another checkpoint of the same sizes after a restart; and its own again later."""
    base, store = tmp_path / "base", tmp_path / "store"
    save(base)
    with running(base, store) as site:
        site.publish("learnt", "play {text}", soft=4)
        site.publish("words", "play {text}")
        before = site.generate("x", "learnt", max_new_tokens=4)["generated_text"]
    base.rename(tmp_path / "first")
    save(base, seed=1)
    with running(base, store) as site:
        assert code(site, "learnt") == "503 wrong_base"
        assert site.http.get("/tasks/learnt").json()["servable"] is False
        assert code(site, "words") == "200", "words belong to no base"
        again = site.http.post("/tasks/learnt/rollback", json={"version": 1})
        assert again.status_code == 200
        patched = site.http.patch("/tasks/learnt", json={"description": "still there"})
        assert (patched.status_code, patched.json()["error"]["code"]) == (422, "wrong_base")
    shutil.rmtree(base)
    (tmp_path / "first").rename(base)
    with running(base, store) as site:
        assert site.generate("x", "learnt", max_new_tokens=4)["generated_text"] == before


def test_t8_a_file_that_names_no_base_is_refused_where_that_is_required(tmp_path: Path) -> None:
    """At its upload, and where the store has it already: PEFT's files name none, and any base of their size fits."""
    base, store = save(tmp_path / "base"), tmp_path / "store"
    data = peft_file(np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32))
    with running(base, store) as site:
        assert site.http.put("/tasks/unnamed", content=data).json()["verified"] is False
        assert code(site, "unnamed") == "200"
    with running(base, store, require_fingerprint=True) as site:
        assert code(site, "unnamed") == "503 wrong_base"
        refused = site.http.put("/tasks/another", content=data)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "wrong_base")
