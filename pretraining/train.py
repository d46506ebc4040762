"""Train the embedded base model from scratch: `python -m pretraining.train --data DIR --out DIR`.

Llama shape, Muon for the matrices and AdamW for the rest, constant rate then linear decay to zero in the last part.
Short rows first, long ones at the end: on a CPU a row's attention costs its length squared, and most texts are short.
A checkpoint every five minutes; the same command goes on where a killed run stopped and reaches the same loss.
`--tokens` may grow between runs as long as the decay has not begun. Knows nothing of tasks or soft prompts.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from tokenizers import Tokenizer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from pretraining.stream import BOS_ID, EOS_ID, PAD_ID, Stream, train_tokenizer

VOCABULARY = 6144
STEP_TOKENS = 12_288
STAGES = ((0.0, 256), (0.65, 512), (0.9, 1024))
"""(from this part of the run on, ids in a row)."""
MATRIX_RATE, OTHER_RATE, MATRIX_DECAY = 0.02, 3e-3, 0.01
WARMUP_STEPS = 100
DECAY_PART = 0.35
CLIP = 1.0
SEED = 20261123


SHAPES = {"8m": (256, 704, 8, 8, 4), "2m": (128, 352, 6, 4, 2), "0.3m": (32, 96, 4, 2, 1)}
"""Hidden size, feed-forward size, layers, heads, key heads. The first is the embedded base; all read the same text."""


def new_model(shape: str = "8m") -> LlamaForCausalLM:
    hidden, feed_forward, layers, heads, kv_heads = SHAPES[shape]
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=feed_forward,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=BOS_ID,
            eos_token_id=EOS_ID,
            pad_token_id=PAD_ID,
        )
    )


class Optimizers:
    """Muon on every matrix of a block, AdamW on embedding and norms; one schedule scales both."""

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named if p.ndim != 2 or "embed" in name]
        # the Muon paper's own step is RMS 1 / sqrt(max(shape)); "original" scales by the shape instead
        self._all: tuple[tuple[torch.optim.Optimizer, float], ...] = (
            (torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=MATRIX_DECAY), MATRIX_RATE),
            (
                torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
                OTHER_RATE,
            ),
        )

    def step(self, scale: float) -> None:
        for optimizer, rate in self._all:
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
            optimizer.zero_grad()

    def tensors(self) -> dict[str, torch.Tensor]:
        """All state as named tensors, so that a checkpoint needs no pickle."""
        return {
            f"{which}.{index}.{key}": torch.as_tensor(value)
            for which, (optimizer, _) in enumerate(self._all)
            for index, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        for which, (optimizer, _) in enumerate(self._all):
            whole = optimizer.state_dict()
            for name, tensor in tensors.items():
                owner, index, key = name.split(".", 2)
                if int(owner) == which:
                    whole["state"].setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict(whole)


def schedule(step: int, steps: int) -> float:
    """Warm-up, constant, linear decay to zero: the scale of every learning rate at `step` of `steps`."""
    decay = DECAY_PART * steps
    return min(1.0, (step + 1) / WARMUP_STEPS, max(0.0, (steps - step) / decay))


def row_length(step: int, steps: int) -> int:
    """Ids in a row at `step` of `steps`."""
    return max(length for start, length in STAGES if step >= start * steps)


def attention(device: str, length: int) -> str:
    """Compiled plain attention beats the CPU's fused kernel while a row is short (2.1 against 2.5 s a step at 256)."""
    return "eager" if device == "cpu" and length < 512 else "sdpa"


def save(out: Path, model: LlamaForCausalLM, optimizers: Optimizers, step: int) -> None:
    """Whole or not at all: the step number is in the folder's name, and the folder appears by one rename."""
    fresh = out / f".step-{step:06d}"
    fresh.mkdir(parents=True, exist_ok=True)
    save_model(model, str(fresh / "model.safetensors"))
    save_file(optimizers.tensors(), fresh / "optimizers.safetensors")
    fresh.rename(out / f"step-{step:06d}")
    for old in sorted(out.glob("step-*"))[:-2]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def resume(out: Path, model: LlamaForCausalLM, optimizers: Optimizers) -> int:
    found = sorted(out.glob("step-*"))
    if not found:
        return 0
    load_model(model, str(found[-1] / "model.safetensors"))
    optimizers.load(load_file(found[-1] / "optimizers.safetensors"))
    return int(found[-1].name.removeprefix("step-"))


def tokenizer_of(out: Path, data: Path) -> Tokenizer:
    file = out / "tokenizer.json"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        train_tokenizer(data, VOCABULARY).save(str(file))
    return Tokenizer.from_file(str(file))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one run is made of; the same recipe reaches the same weights, in one go or in many."""

    data: Path
    out: Path
    tokens: int
    seed: int
    save_seconds: float = 300.0
    compiled: bool = True
    shape: str = "8m"


def train(recipe: Recipe, until: int | None = None) -> None:
    """Go on from the newest checkpoint to the last step, or to step `until`."""
    out = recipe.out
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(recipe.seed)
    stream = Stream(recipe.data, tokenizer_of(out, recipe.data), recipe.seed)
    model = new_model(recipe.shape)
    nn.Module.to(model, device)
    optimizers = Optimizers(model)
    step, steps = resume(out, model, optimizers), recipe.tokens // STEP_TOKENS
    forward = torch.compile(model, dynamic=False) if recipe.compiled else model
    began = saved = time.monotonic()
    first, length = step, 0
    last = steps if until is None else until
    while step < last:
        if recipe.compiled and length != row_length(step, steps):
            model.set_attn_implementation(attention(device, row_length(step, steps)))
        length = row_length(step, steps)
        ids = torch.from_numpy(stream.batch(step * STEP_TOKENS, STEP_TOKENS // length, length)).to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizers.step(schedule(step, steps))
        step += 1
        if step % 10 == 0:
            rate = (step - first) * STEP_TOKENS / (time.monotonic() - began)
            line = {"step": step, "loss": round(loss.item(), 4), "norm": round(norm.item(), 3), "tokens_per_s": rate}
            with (out / "curve.jsonl").open("a") as curve:
                curve.write(json.dumps(line) + "\n")
        if step == last or time.monotonic() - saved > recipe.save_seconds:
            save(out, model, optimizers, step)
            saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds all data sets")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, tokenizer and curve go here")
    parser.add_argument("--tokens", type=int, default=26_000_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--save-seconds", type=float, default=300.0)
    parser.add_argument("--shape", choices=list(SHAPES), default="8m", help="which size of one family")
    parser.add_argument("--no-compile", action="store_true", help="skip torch.compile (1.6 times slower)")
    given = parser.parse_args()
    if hasattr(os, "nice"):
        os.nice(10)
    compiled = not given.no_compile
    train(Recipe(given.data, given.out, given.tokens, given.seed, given.save_seconds, compiled, given.shape))


if __name__ == "__main__":
    main()
