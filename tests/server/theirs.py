"""PEFT alone: adapters that the real library makes and saves, and what it answers with them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import GenerationConfig

from tests import models

NEW = 10
WEIGHTS = "adapter_model.safetensors"
WARNINGS = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),
]
"""PEFT's own, of transformers' names and of a call that transformers makes."""


def trained(folder: Path, config: PeftConfig, seed: int, family: str = "llama") -> PeftModel:
    """Numbers large enough to be heard, saved by PEFT."""
    model: Any = get_peft_model(models.random_model(family), copy.deepcopy(config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(4 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    found: PeftModel = model
    return found


def alone(model: PeftModel, text: str, **more: Any) -> str:
    """Greedy, what comes after `text`; `more` goes to PEFT's `generate`."""
    tokenizer = models.tokenizer()
    ids = torch.tensor([tokenizer.encode(text).ids])
    greedy = GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=1, pad_token_id=2)
    found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy, **more)
    return tokenizer.decode(found[0, ids.shape[1] :].tolist())
