"""Every type that the installed PEFT has: a soft prompt's file is taken as it is, any other refused by name.

A type that is new in PEFT fails here until somebody has decided about it.
"""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AdaptionPromptConfig,
    CartridgeConfig,
    CPTConfig,
    MultitaskPromptTuningConfig,
    PeftConfig,
    PeftType,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptLearningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING
from safetensors.torch import save
from transformers import LlamaConfig, LlamaForCausalLM

from prompt_store.container import HEADER_LIMIT
from prompt_store.peft import KINDS
from prompt_store.peft_others import METHODS
from tests import models
from tests.server.site import Site
from tests.server.theirs import NEW, WARNINGS, WEIGHTS, alone, trained

LENGTH = 5
INPUTS = ("play some jazz", "who wrote the book?")
CAUSAL: dict[str, Any] = {"task_type": "CAUSAL_LM"}
ROWS: dict[str, Any] = {"num_virtual_tokens": LENGTH, **CAUSAL}
IDS: dict[str, Any] = {"cpt_token_ids": [5, 6, 7, 8, 9], "cpt_mask": [1] * 5, "cpt_tokens_type_mask": [1, 2, 3, 4, 1]}
SOFT: dict[str, PeftConfig] = {
    "PROMPT_TUNING": PromptTuningConfig(**ROWS),
    "P_TUNING": PromptEncoderConfig(encoder_hidden_size=8, **ROWS),
    "P_TUNING, LSTM": PromptEncoderConfig(encoder_hidden_size=8, encoder_reparameterization_type="LSTM", **ROWS),
    "MULTITASK_PROMPT_TUNING": MultitaskPromptTuningConfig(
        num_tasks=2, num_ranks=2, num_transformer_submodules=1, **ROWS
    ),
    "CPT": CPTConfig(opt_projection_epsilon=60.0, opt_projection_format_epsilon=60.0, **IDS, **CAUSAL),
    "PREFIX_TUNING": PrefixTuningConfig(**ROWS),
    "PREFIX_TUNING, projected": PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=8, **ROWS),
    "CARTRIDGE": CartridgeConfig(**ROWS),
    "ADAPTION_PROMPT": AdaptionPromptConfig(adapter_len=LENGTH, adapter_layers=2, **CAUSAL),
}
"""A type, and how it is configured."""
OTHERS: dict[str, dict[str, Any] | None] = {
    "ADALORA": {"total_step": 10},
    "ADAMSS": None,
    "BEFT": {},
    "BOFT": {},
    "C3A": {"block_size": 16},
    "DEFT": {},
    "DELORA": {},
    "FOURIERFT": {},
    "FROD": {},
    "GLORA": {},
    "GRALORA": {},
    "HIRA": {},
    "HRA": {},
    "IA3": {"feedforward_modules": []},
    "LILY": {},
    "LN_TUNING": {},
    "LOHA": {},
    "LOKR": {},
    "LORA": {},
    "MISS": {},
    "OFT": {},
    "OSF": {},
    "PEANUT": {},
    "POLY": {},
    "PSOFT": {},
    "PVERA": {},
    "RANDLORA": {},
    "ROAD": {"group_size": 32},
    "SHADOW": {},
    "SHIRA": {"r": 2},
    "SUPERTUNING": {},
    "TINYLORA": {},
    "TRAINABLE_TOKENS": {},
    "UNILORA": {},
    "VBLORA": {"vector_length": 16},
    "VERA": {},
    "WAVEFT": {"n_frequency": 64},
    "XLORA": None,
}
"""Options that the small base wants; None where PEFT wants more than a model: its tensors' names are made up then."""
BY_HAND = "base_model.model.model.layers.0.self_attn.q_proj.{}x"
pytestmark = [*WARNINGS, pytest.mark.filterwarnings("ignore:.*:UserWarning")]
"""PEFT's methods warn of each other's defaults."""


def type_of(name: str) -> str:
    return name.partition(",")[0]


def index_of(name: str) -> dict[str, str]:
    """The query that chooses one of several tasks."""
    return {"task_index": "1"} if name.startswith("MULTITASK") else {}


def other_model() -> LlamaForCausalLM:
    """A Llama of half the width and a layer fewer."""
    shape: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 384,
    }
    return LlamaForCausalLM(LlamaConfig(hidden_size=32, intermediate_size=48, **shape))


def written(folder: Path, kind: str, options: dict[str, Any] | None) -> bytes:
    """What PEFT saves for a method that is no soft prompt."""
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[PeftType(kind)]
    if options is None:
        return save({BY_HAND.format(prefix): torch.ones(2, 64)}, {"format": "pt"})
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    if "target_modules" in inspect.signature(config).parameters:
        options = {"target_modules": ["q_proj", "v_proj"], **options}
    get_peft_model(models.random_model(), config(**CAUSAL, **options)).save_pretrained(str(folder))
    return (folder / WEIGHTS).read_bytes()


def test_every_type_is_decided_about() -> None:
    """What PEFT calls prompt learning, and its adaption prompts, are taken; the rest is known by name."""
    soft = {type_of(name) for name in SOFT}
    learning = {kind.value for kind in PeftType if issubclass(PEFT_TYPE_TO_CONFIG_MAPPING[kind], PromptLearningConfig)}
    assert soft == learning | {"ADAPTION_PROMPT"} == set(KINDS)
    assert soft | set(OTHERS) == {kind.value for kind in PeftType}
    assert {PEFT_TYPE_TO_PREFIX_MAPPING[PeftType(name)] for name in OTHERS} <= set(METHODS)


def test_every_soft_prompt_of_peft_answers_as_peft_does(site: Site, tmp_path: Path) -> None:
    """All types beside each other in one batch with the bare model: 201, unverified, text for text PEFT's own."""
    requests: list[dict[str, Any]] = [{"inputs": text, "parameters": {"max_new_tokens": NEW}} for text in INPUTS]
    wanted = []
    for number, (name, config) in enumerate(SOFT.items()):
        model, task = trained(tmp_path / str(number), config, 3 + number), f"type-{number}"
        query = {"target_delimiter": ""} | index_of(name)
        data = (tmp_path / str(number) / WEIGHTS).read_bytes()
        answer = site.http.put(f"/tasks/{task}", content=data, params=query)
        assert answer.status_code == 201, (name, answer.text)
        made = answer.json()
        assert (made["kind"], made["length"]) == (KINDS[type_of(name)], LENGTH), name
        assert (made["verified"], made["base"], made["servable"]) == (False, None, True), name
        requests += [{"task": task, **request} for request in requests[: len(INPUTS)]]
        more = {"task_ids": torch.tensor([1])} if index_of(name) else {}
        wanted += [(name, alone(model, text, **more)) for text in INPUTS]
    answers = [
        one["generated_text"] for one in site.http.post("/generate", json={"requests": requests}).json()["responses"]
    ]
    found = [(name, text) for (name, _), text in zip(wanted, answers[len(INPUTS) :], strict=True)]
    assert found == wanted
    assert len(set(answers)) == len(answers), "references that agree prove nothing"


@pytest.mark.parametrize("name", SOFT)
def test_a_soft_prompt_for_another_base_is_refused_with_the_reason(site: Site, name: str, tmp_path: Path) -> None:
    """Expected and got, as numbers; nothing is kept of it."""
    get_peft_model(other_model(), SOFT[name]).save_pretrained(str(tmp_path))
    kind = KINDS[type_of(name)]
    query = {"kind": kind} | index_of(name)
    answer = site.http.put("/tasks/misfit", content=(tmp_path / WEIGHTS).read_bytes(), params=query)
    code, wanted, got = {
        "embeddings": ("wrong_shape", "64", "32"),
        "prefix": ("wrong_shape", "192", "64"),
        "adapter": ("wrong_tensors", "3 layers", "topmost"),
    }[kind]
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, code), error
    assert wanted in error["message"], error
    assert got in error["message"], error
    assert site.http.get("/tasks/misfit").status_code == 404


@pytest.mark.parametrize("name", OTHERS)
def test_a_method_that_is_no_soft_prompt_is_refused_by_its_name(site: Site, name: str, tmp_path: Path) -> None:
    """It would change the base that all tasks share."""
    answer = site.http.put("/tasks/changed", content=written(tmp_path, name, OTHERS[name]))
    error = answer.json()["error"]
    named = "AdaLoRA" if name == "ADALORA" else METHODS[PEFT_TYPE_TO_PREFIX_MAPPING[PeftType(name)]]
    assert (answer.status_code, error["code"]) == (422, "wrong_tensors"), error
    assert error["message"].startswith(f"this is {named}, "), error
    assert site.http.get("/tasks/changed").status_code == 404


def test_a_large_file_of_another_method_is_told_by_its_name_too(site: Site) -> None:
    """LoRA on every layer of a large base has a header longer than a prompt file may have: that is not its trouble."""
    names = [
        f"base_model.model.model.layers.{layer}.mlp.up_proj.lora_{part}.weight" for layer in range(500) for part in "AB"
    ]
    data = save({name: torch.ones(1, 2) for name in names}, {"format": "pt"})
    assert int.from_bytes(data[:8], "little") > HEADER_LIMIT
    error = site.http.put("/tasks/changed", content=data).json()["error"]
    assert (error["code"], error["message"][:14]) == ("wrong_tensors", "this is LoRA, ")


def test_a_method_of_tomorrow_is_refused_as_what_it_does(site: Site) -> None:
    """Its name is unknown, where its tensors belong is not."""
    data = save({BY_HAND.format("tomorrow_"): torch.ones(2, 64)}, {"format": "pt"})
    error = site.http.put("/tasks/changed", content=data).json()["error"]
    assert error["code"] == "wrong_tensors"
    assert "inside of the base's layers" in error["message"]
