"""Small random bases for tests: every family, with weights scaled up so that other inputs give other answers.

A random model of the usual initialisation repeats one id whatever it is fed; then every oracle agrees with everything.
"""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 384
CONTEXT = 256
WIDTH = 32
"""Of a head that is wider than its share of the hidden size."""
FAMILIES = ("llama", "qwen3", "gpt2", "mistral", "qwen2", "gemma2", "gemma3", "phi3", "gpt_neox", "opt")
WIDE = tuple(f"{name}-wide" if name in {"llama", "mistral", "qwen2", "phi3"} else name for name in FAMILIES)
"""The same, with heads wider than their share of the hidden size wherever a family can have them."""

_TEXT = (
    "play some jazz, please. what is the weather in Paris tomorrow? book a table for two at seven. "
    "the food was great and the service was slow. add this song to my list. who wrote the book? "
) * 4


def tokenizer() -> Tokenizer:
    """Byte-level BPE of `VOCABULARY` ids with <s> (put in front), </s> and <pad>."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(
        [_TEXT],
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>", "<pad>"],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return built


def _config(family: str) -> tuple[type[PreTrainedModel], Any]:
    common: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "vocab_size": VOCABULARY}
    if family == "gpt2":
        return GPT2LMHeadModel, GPT2Config(n_embd=64, n_layer=3, n_head=4, n_positions=CONTEXT, **common)
    shape: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": not family.startswith("mistral"),
        **common,
    }
    if family == "gpt_neox":
        return GPTNeoXForCausalLM, GPTNeoXConfig(**shape)
    if family == "opt":
        return OPTForCausalLM, OPTConfig(**shape, ffn_dim=96)
    return _grouped(family, {**shape, "num_key_value_heads": 2})


def _grouped(family: str, shape: dict[str, Any]) -> tuple[type[PreTrainedModel], Any]:
    """Two query heads a KV head; windows shorter than the sequences, head sizes that are not hidden / heads."""
    gemma: dict[str, Any] = {"head_dim": WIDTH, "sliding_window": 24, "query_pre_attn_scalar": 24}
    own: dict[str, tuple[type[PreTrainedModel], type[PreTrainedConfig], dict[str, Any]]] = {
        "llama": (LlamaForCausalLM, LlamaConfig, {}),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": WIDTH}),
        "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 24}),
        "phi3": (Phi3ForCausalLM, Phi3Config, {"sliding_window": 24}),
        # every other layer local; caps low enough to bend the scores and the logits
        "gemma2": (
            Gemma2ForCausalLM,
            Gemma2Config,
            gemma | {"attn_logit_softcapping": 6.0, "final_logit_softcapping": 5.0},
        ),
        "gemma3": (
            Gemma3ForCausalLM,
            Gemma3TextConfig,
            gemma | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
        ),
    }
    model, config, more = own[family.removesuffix("-wide")]
    return model, config(**shape, **(more | ({"head_dim": WIDTH} if family.endswith("-wide") else {})))


def random_model(family: str = "llama", seed: int = 0) -> PreTrainedModel:
    """float32, weights scaled so that greedy answers differ from input to input."""
    kind, config = _config(family)
    torch.manual_seed(seed)
    model: PreTrainedModel = kind(config).eval()
    generator, vectors = (torch.Generator().manual_seed(seed + more) for more in (0, 500))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                scale = 1.0 if "embed" in name or "wte" in name else 2.0 / parameter.shape[-1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            elif "gemma" in family and ".post_" in name:
                parameter.fill_(7.0)  # one plus this: as loud as the scaled embeddings it is added to
            else:  # biases and norms: a family whose biases are all zero is another family
                parameter.add_(torch.randn(parameter.shape, generator=vectors) * 0.2)
    return model


def save(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """A checkpoint directory as a user would have it: safetensors, config, tokenizer."""
    model = random_model(family, seed)
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def rows(length: int, hidden: int = 64, seed: int = 0) -> torch.Tensor:
    """A random soft prompt, float32 [length, hidden], at the scale of the random bases' embeddings."""
    return torch.randn(length, hidden, generator=torch.Generator().manual_seed(1000 + seed))
