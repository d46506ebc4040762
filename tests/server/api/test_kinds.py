"""Deep prefixes and adapters over HTTP: PEFT's own files, uploaded as they are, answer as PEFT does alone."""

from pathlib import Path

import numpy as np
import pytest
from peft import AdaptionPromptConfig, PrefixTuningConfig, TaskType

from prompt_store.metadata import Metadata
from prompt_store.prompt import SoftPrompt, Tensor, build
from server.engine.adapters import MAX_ROWS
from tests import models
from tests.server.site import Site, peft_file
from tests.server.site import site as running
from tests.server.theirs import NEW, WARNINGS, alone, trained

LENGTH = 6
INPUTS = ("play some jazz", "what is the weather in Paris", "who wrote the book?")


PREFIX = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=LENGTH)
ADAPTER = AdaptionPromptConfig(task_type=TaskType.CAUSAL_LM, adapter_len=LENGTH, adapter_layers=2)
pytestmark = WARNINGS


def test_pefts_prefixes_answer_as_peft_does_alone(site: Site, tmp_path: Path) -> None:
    """Two prefixes and the bare model in one batch: greedy, float32, text for text."""
    theirs = {f"deep-{seed}": trained(tmp_path / str(seed), PREFIX, seed) for seed in (1, 2)}
    for seed, name in enumerate(theirs, start=1):
        data = (tmp_path / str(seed) / "adapter_model.safetensors").read_bytes()
        query = {"target_delimiter": ""}  # the answer's own leading space stays
        task = site.http.put(f"/tasks/{name}", content=data, params=query).json()
        assert (task["kind"], task["length"]) == ("prefix", LENGTH)
    asked = [(name, text) for text in INPUTS for name in theirs]
    requests = [{"task": name, "inputs": text, "parameters": {"max_new_tokens": NEW}} for name, text in asked]
    bare = {"inputs": INPUTS[0], "parameters": {"max_new_tokens": NEW}}
    answers = site.http.post("/generate", json={"requests": [*requests, bare]}).json()["responses"]
    wanted = [alone(theirs[name], text) for name, text in asked]
    assert [answer["generated_text"] for answer in answers[:-1]] == wanted
    assert len({*wanted, answers[-1]["generated_text"]}) == len(asked) + 1, "references that agree prove nothing"
    assert {answer["usage"]["soft_tokens"] for answer in answers[:-1]} == {LENGTH}


def test_a_prefix_takes_a_template_and_labels(site: Site) -> None:
    """Literals behind it are shared like any task's, `/classify` scores behind it, `/nearest` refuses it."""
    rows = np.random.default_rng(3).standard_normal((4, 3 * 2 * 2 * 16))
    query = {"template": "play {text} now", "labels": "jazz,rock"}
    assert site.http.put("/tasks/deep-labels", content=peft_file(rows), params=query).status_code == 201
    usage = site.generate("it", "deep-labels", max_new_tokens=2)["usage"]
    assert usage["soft_tokens"] == 4
    assert usage["cached_tokens"] > 1, "BOS and the first literal"
    scores = site.http.post("/classify", json={"task": "deep-labels", "inputs": "it"}).json()["scores"]
    assert {score["label"] for score in scores} == {"jazz", "rock"}
    refused = site.http.get("/tasks/deep-labels/nearest")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "task")


def test_a_prefix_longer_than_a_sliding_window_is_refused(tmp_path: Path) -> None:
    """Its first positions would be seen by nobody."""
    with running(models.save(tmp_path / "base", "mistral"), "memory://") as site:
        window = 24
        width = 3 * 2 * 2 * 16
        fits = site.http.put("/tasks/a", content=peft_file(np.ones((window, width))))
        assert fits.status_code == 201, fits.text
        error = site.http.put("/tasks/b", content=peft_file(np.ones((window + 1, width)))).json()["error"]
        assert error["code"] == "prompt_too_long"
        assert "window of 24" in error["message"]


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_pefts_adapters_answer_as_peft_does_alone(family: str, tmp_path: Path) -> None:
    """On every family that PEFT adapts: an adapter, a deep prefix and the bare model in one batch."""
    adapted, deep = (trained(tmp_path / c.__class__.__name__, c, 5, family) for c in (ADAPTER, PREFIX))
    with running(models.save(tmp_path / "base", family), "memory://") as site:
        for config, kind in ((ADAPTER, "adapter"), (PREFIX, "prefix")):
            data = (tmp_path / config.__class__.__name__ / "adapter_model.safetensors").read_bytes()
            task = site.http.put(f"/tasks/{kind}", content=data, params={"target_delimiter": ""}).json()
            assert (task["kind"], task["length"]) == (kind, LENGTH), task
        few = {"max_new_tokens": NEW}
        requests = [
            {"task": kind, "inputs": text, "parameters": few} for text in INPUTS for kind in ("adapter", "prefix")
        ]
        requests += [{"inputs": text, "parameters": few} for text in INPUTS]
        answers = site.http.post("/generate", json={"requests": requests}).json()["responses"]
    wanted = [alone(model, text) for text in INPUTS for model in (adapted, deep)]
    found = [answer["generated_text"] for answer in answers]
    assert found[: len(wanted)] == wanted
    kinds = (found[0 : len(wanted) : 2], found[1 : len(wanted) : 2], found[len(wanted) :])
    assert all(len({*three}) == 3 for three in zip(*kinds, strict=True)), f"kinds that agree prove nothing: {kinds}"
    assert answers[0]["usage"]["soft_tokens"] == 0, "an adapter takes no positions"


def test_an_adapter_of_another_number_of_heads_is_refused(site: Site) -> None:
    """One gate for all heads or one for each; three for four heads are neither."""
    shapes = {"gate": (2, 3), "prompts": (2, 4, 64)}
    tensors = {name: Tensor.from_float32(np.ones(shape, np.float32)) for name, shape in shapes.items()}
    file = build(SoftPrompt("adapter", 4, tensors), Metadata("adapter", 4, "{input}"))
    error = site.http.put("/tasks/heads", content=file.data).json()["error"]
    assert error["code"] == "wrong_shape"
    assert "1 or 4" in error["message"]


def test_a_very_long_adapter_is_refused(site: Site) -> None:
    """It takes no positions, but a place in the attention of every token."""
    shapes = {"gate": (1, 1), "prompts": (1, MAX_ROWS + 1, 64)}
    tensors = {name: Tensor.from_float32(np.ones(shape, np.float32)) for name, shape in shapes.items()}
    file = build(SoftPrompt("adapter", MAX_ROWS + 1, tensors), Metadata("adapter", MAX_ROWS + 1, "{input}"))
    error = site.http.put("/tasks/long", content=file.data).json()["error"]
    assert error["code"] == "prompt_too_long"


def test_a_base_that_runs_no_adapters_says_so(tmp_path: Path) -> None:
    """At publish, and in /info."""
    trained(tmp_path / "peft", ADAPTER, 5)
    data = (tmp_path / "peft" / "adapter_model.safetensors").read_bytes()
    with running(models.save(tmp_path / "base", "gemma3"), "memory://") as site:
        answer = site.http.put("/tasks/adapted", content=data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unsupported_kind")
        assert "gemma3" in answer.json()["error"]["message"]
        assert site.http.get("/info").json()["kinds"] == ["embeddings", "prefix", "text"]
