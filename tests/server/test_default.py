"""What is packaged: a whole base of a bounded size, demo tasks that it fits, answers equal to transformers' alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from prompt_store.base import damaged, fingerprint
from prompt_store.prompt import PromptFile, parse
from prompt_store.template import Template, compose
from server.config import EMBEDDED_BASE, EMBEDDED_TASKS
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Request, Sampling
from server.engine.settings import EngineSettings
from server.lookup import engine_prompt
from server.tokenizer import Tokenizer
from tests.server.engine import oracle

INPUTS = (
    "play some jazz by miles davis",
    "a warm , funny and moving film",
    "name[Blue Spice], eatType[coffee shop], area[city centre]",
    "inform(city=Paris), request(date)",
    "We propose a method that learns many tasks on one frozen model. It is simple.",
)
NEW = 24


def demos() -> dict[str, PromptFile]:
    return {path.stem: parse(path.read_bytes()) for path in sorted(EMBEDDED_TASKS.glob("*.safetensors"))}


def test_the_base_is_whole_and_small() -> None:
    """Every byte is the recorded one; shards and sum stay within what a repository should hold."""
    assert damaged(EMBEDDED_BASE) == []
    sizes = [path.stat().st_size for path in EMBEDDED_BASE.glob("*.safetensors")]
    assert max(sizes) <= 15_000_000
    assert sum(sizes) <= 20_000_000


@pytest.mark.parametrize("name", demos())
def test_a_demo_was_learnt_on_this_base_and_says_how_good_it_is(name: str) -> None:
    """Scored on its whole test part; a text task needs no base."""
    metadata = demos()[name].metadata
    assert any(metric.startswith("test_") for metric in metadata.metrics)
    assert metadata.description
    if metadata.kind != "text":
        assert metadata.base is not None
        assert metadata.base.fingerprint == fingerprint(EMBEDDED_BASE)


def test_every_demo_answers_as_transformers_does_alone() -> None:
    """All tasks and inputs in flight at once, greedy, float32: token for token, and not all the same."""
    base, tokenizer = BaseModel.load(EMBEDDED_BASE, device="cpu", dtype="float32"), Tokenizer.load(EMBEDDED_BASE)
    reference: Any = AutoModelForCausalLM.from_pretrained(EMBEDDED_BASE, dtype=torch.float32).eval()
    requests, rows = [], []
    for name, file in demos().items():
        template = Template.parse(file.metadata.template, file.metadata.kind, file.metadata.length)
        prompt = engine_prompt(file, template, tokenizer)
        for text in INPUTS:
            ids = compose(template, dict.fromkeys(template.fields, text), tokenizer.encode, tokenizer.bos).ids
            wish = Sampling(max_new_tokens=NEW, ignore_eos=True)
            requests.append(Request((name, text), ids, wish, prompt))
            rows.append(None if prompt.rows is None else torch.from_numpy(np.array(prompt.rows)))
    engine = Engine(base, EngineSettings(threads=1))
    engine.start()
    try:
        answers = [oracle.ids_of(found) for found in oracle.ask_all(engine, requests)]
    finally:
        engine.close()
    wanted = [oracle.generate(reference, one.ids, soft, NEW) for one, soft in zip(requests, rows, strict=True)]
    assert answers == wanted
    assert len({tuple(answer) for answer in wanted}) > len(requests) // 2


def test_the_packages_hold_no_other_file() -> None:
    """Nothing is shipped by accident."""
    known = {"README.md", "SHA256SUMS", "curve.svg", "config.json", "generation_config.json", "tokenizer.json"}
    known |= {"tokenizer_config.json", "model.safetensors.index.json"}
    found = {path.name for path in Path(EMBEDDED_BASE).iterdir() if path.suffix != ".safetensors"}
    assert found <= known
