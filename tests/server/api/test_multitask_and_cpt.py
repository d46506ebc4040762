"""MULTITASK_PROMPT_TUNING and CPT over HTTP: the files that PEFT writes, uploaded as they are, answer as PEFT alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import CPTConfig, MultitaskPromptTuningConfig, PeftModel, TaskType
from safetensors.torch import load_file, save

from tests import models
from tests.server.site import Site
from tests.server.theirs import NEW, WARNINGS, WEIGHTS, alone, trained

TASKS, RANKS, LENGTH = 3, 2, 5
INPUTS = ("play some jazz", "what is the weather in Paris", "who wrote the book?")
AS_IT_IS = {"target_delimiter": ""}
"""The answer's own leading space stays."""
pytestmark = WARNINGS


def multitask(tasks: int = TASKS) -> MultitaskPromptTuningConfig:
    return MultitaskPromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_tasks=tasks,
        num_ranks=RANKS,
        num_virtual_tokens=LENGTH,
        num_transformer_submodules=1,
    )


def cpt(text: str) -> CPTConfig:
    """The ids of a context, template, input and label in turns; what is learnt may go far enough to be heard."""
    ids = models.tokenizer().encode(text).ids
    return CPTConfig(
        task_type=TaskType.CAUSAL_LM,
        cpt_token_ids=ids,
        cpt_mask=[1] * len(ids),
        cpt_tokens_type_mask=[1 + at % 4 for at in range(len(ids))],
        opt_projection_epsilon=60.0,
        opt_projection_format_epsilon=60.0,
    )


def weights(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


def put(site: Site, name: str, data: bytes, **query: Any) -> Any:
    return site.http.put(f"/tasks/{name}", content=data, params=AS_IT_IS | query)


def answers(site: Site, asked: list[tuple[str | None, str]]) -> list[str]:
    """All in one batch."""
    few = {"max_new_tokens": NEW}
    requests = [{"inputs": text, "parameters": few} | ({"task": name} if name else {}) for name, text in asked]
    found = site.http.post("/generate", json={"requests": requests}).json()["responses"]
    return [answer["generated_text"] for answer in found]


def test_every_task_of_a_multitask_file_answers_as_peft_does(site: Site, tmp_path: Path) -> None:
    """One file, three uploads, one batch with the bare model: text for text PEFT's generate for that task."""
    theirs = trained(tmp_path, multitask(), 3)
    for index in range(TASKS):
        task = put(site, f"multi-{index}", weights(tmp_path), task_index=index).json()
        assert (task["kind"], task["length"]) == ("embeddings", LENGTH), task
    asked = [(index, text) for text in INPUTS for index in range(TASKS)]
    wanted = [alone(theirs, text, task_ids=torch.tensor([index])) for index, text in asked]
    bare: list[tuple[str | None, str]] = [(None, text) for text in INPUTS]
    found = answers(site, [(f"multi-{index}", text) for index, text in asked] + bare)
    assert found[: len(wanted)] == wanted
    assert len(set(found)) == len(found), "references that agree prove nothing"


def test_a_multitask_prompt_is_the_papers_product(site: Site, tmp_path: Path) -> None:
    """Wang et al. (arXiv 2303.02861), eq. 2: the shared prompt times the low-rank product of the task, elementwise."""
    trained(tmp_path, multitask(), 4)
    tensors = {name: tensor.double().numpy() for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    for index in range(TASKS):
        low_rank = sum(
            np.outer(tensors["prefix_task_cols"][index][:, rank], tensors["prefix_task_rows"][index][rank])
            for rank in range(RANKS)
        )
        name = f"product-{index}"
        assert put(site, name, weights(tmp_path), task_index=index).status_code == 201
        digest = site.http.get(f"/tasks/{name}").json()["digest"]
        resident = site.desk.room.running.engine.resident(digest)
        assert resident is not None
        assert resident.rows is not None
        np.testing.assert_allclose(resident.rows, tensors["prompt_embeddings"] * low_rank, rtol=1e-5, atol=1e-5)


def test_a_multitask_file_of_one_task_needs_no_index(site: Site, tmp_path: Path) -> None:
    """PEFT's default, and what is learnt from shared prompts: there is nothing to choose."""
    theirs = trained(tmp_path, multitask(tasks=1), 5)
    assert put(site, "one-of-one", weights(tmp_path)).status_code == 201
    found = answers(site, [("one-of-one", text) for text in INPUTS])
    assert found == [alone(theirs, text, task_ids=torch.tensor([0])) for text in INPUTS]


def test_a_cpt_file_answers_as_peft_does(site: Site, tmp_path: Path) -> None:
    """Two contexts beside the bare model in one batch; loaded anew by PEFT they say the same."""
    contexts = {"cpt-a": "play jazz now", "cpt-b": "the food was great"}
    theirs = {name: trained(tmp_path / name, cpt(text), 3) for name, text in contexts.items()}
    for name, text in contexts.items():
        task = put(site, name, weights(tmp_path / name)).json()
        assert (task["kind"], task["length"]) == ("embeddings", len(models.tokenizer().encode(text).ids)), task
    asked = [(name, text) for text in INPUTS for name in contexts]
    wanted = [alone(theirs[name], text) for name, text in asked]
    bare: list[tuple[str | None, str]] = [(None, text) for text in INPUTS]
    found = answers(site, [*asked, *bare])
    assert found[: len(wanted)] == wanted
    assert len(set(found)) == len(found), "references that agree prove nothing"
    again = PeftModel.from_pretrained(models.random_model(), str(tmp_path / "cpt-a")).eval()
    assert [alone(again, text) for text in INPUTS] == wanted[::2]


def test_what_is_learnt_in_a_cpt_file_is_heard(site: Site, tmp_path: Path) -> None:
    """The file holds the context with its learnt differences; the context's own embeddings answer otherwise."""
    model = trained(tmp_path, cpt("play jazz now"), 3)
    encoder: Any = model.prompt_encoder["default"]
    assert put(site, "cpt-learnt", weights(tmp_path)).status_code == 201
    assert (
        put(site, "cpt-plain", save({"prompt_embeddings": encoder.embedding.weight.detach().clone()})).status_code
        == 201
    )
    learnt, context = (answers(site, [(name, text) for text in INPUTS]) for name in ("cpt-learnt", "cpt-plain"))
    assert all(one != other for one, other in zip(learnt, context, strict=True))


def test_files_that_cannot_fit_are_refused_with_a_reason(site: Site, tmp_path: Path) -> None:
    """Another base's width, factors that do not match, no task or one that is not there, a kind it cannot be."""
    trained(tmp_path / "multi", multitask(), 3)
    trained(tmp_path / "cpt", cpt("play jazz now"), 3)
    whole = load_file(tmp_path / "multi" / WEIGHTS)
    narrow = {name: tensor if "cols" in name else tensor[..., :32].clone() for name, tensor in whole.items()}
    crossed = whole | {"prefix_task_rows": whole["prefix_task_rows"][:2].clone()}
    lacking = {name: tensor for name, tensor in whole.items() if "rows" not in name}
    endless = whole | {"prefix_task_cols": torch.full_like(whole["prefix_task_cols"], 1e38)}
    cut = load_file(tmp_path / "cpt" / WEIGHTS)["prompt_embeddings"][:, :63].clone()
    refusals: list[tuple[bytes, dict[str, Any], str, str]] = [
        (weights(tmp_path / "multi"), {}, "bad_task_index", "holds 3 tasks: task_index must be from 0 to 2"),
        (weights(tmp_path / "multi"), {"task_index": 3}, "bad_task_index", "must be from 0 to 2"),
        (weights(tmp_path / "cpt"), {"task_index": 0}, "bad_task_index", "only a file of MULTITASK_PROMPT_TUNING"),
        (weights(tmp_path / "multi"), {"task_index": 0, "kind": "prefix"}, "wrong_shape", "holds embeddings"),
        (weights(tmp_path / "cpt"), {"kind": "prefix"}, "wrong_shape", "width 192 (prefix), got 64"),
        (save(narrow), {"task_index": 0}, "wrong_shape", "width 64, got 32"),
        (save(crossed), {"task_index": 0}, "wrong_shape", "do not fit the shared prompt"),
        (save(lacking), {"task_index": 0}, "bad_task_index", "only a file of MULTITASK_PROMPT_TUNING"),
        (save(lacking), {}, "wrong_tensors", "prompt_embeddings"),
        (save(endless), {"task_index": 0}, "non_finite", "NaN or infinity"),
        (save({"prompt_embeddings": cut}), {}, "wrong_shape", "got 63"),
    ]
    for data, query, code, reason in refusals:
        answer = put(site, "refused", data, **query)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, code), error
        assert reason in error["message"], error
    assert site.http.get("/tasks/refused").status_code == 404, "nothing of them was kept"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_is_refused(site: Site, tmp_path: Path, value: float) -> None:
    """Whichever of the three factors brings it in."""
    trained(tmp_path, multitask(), 3)
    whole = load_file(tmp_path / WEIGHTS)
    for name, tensor in whole.items():
        sick = tensor.clone()
        sick.view(-1)[0] = value
        error = put(site, "refused", save(whole | {name: sick}), task_index=0).json()["error"]
        assert error["code"] == "non_finite", (name, error)
