"""Soft prompts of every kind and requests to them, drawn from a seed. Knows prompt files and bodies; no server."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

import numpy as np

from prompt_store.metadata import Kind, Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, Tensor, build
from server.engine.request import Prompt

HIDDEN, LAYERS, KV_HEADS, HEADS, HEAD_DIM = 64, 3, 2, 4, 16
"""Of the small random bases."""
KINDS: tuple[Kind, ...] = ("text", "embeddings", "embeddings", "prefix", "adapter")
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "one": ("{input}", "say {input}:", "{{ {input} }} \u00e9 <s>"),
    "two": ("{a} and {b}", "{b}{a}{b}"),
}
WORDS = ("play", "some", "jazz", "\u00e9", "{x}", "the weather", "Paris", "?", "\U0001f600", " ", "12", "\n")
LABELS = ("yes", "no", "maybe not", "\u00e9")


@dataclass(frozen=True, slots=True)
class Made:
    """A prompt file, what the engine is given of it, and the names of its template's fields."""

    file: PromptFile
    prompt: Prompt
    fields: tuple[str, ...]


@lru_cache(maxsize=2000)
def made(seed: int) -> Made:
    draw = Random(f"made {seed}")
    kind, fields = draw.choice(KINDS), draw.choice(("one", "one", "two"))
    template, length = draw.choice(TEMPLATES[fields]), draw.randint(1, 8)
    if kind == "embeddings" and draw.random() < 0.5:
        first = draw.randint(1, length)
        template = f"{{soft:{first}}}{template}" + (f"{{soft:{length - first}}}" if length > first else "")
    tensors = _tensors(kind, length, draw.randrange(2**31))
    length = 0 if kind == "text" else length
    labels = LABELS[: draw.randint(1, 4)] if draw.random() < 0.3 else None
    soft = SoftPrompt(kind, length, {name: Tensor.from_float32(values) for name, values in tensors.items()})
    file = build(soft, Metadata(kind, length, template, labels=labels, description=f"{seed}"))
    prefix = np.stack([tensors["key"], tensors["value"]], axis=1) if kind == "prefix" else None
    adapter = (tensors["prompts"], tensors["gate"]) if kind == "adapter" else None
    prompt = Prompt(file.digest, tensors.get("embeddings"), (), prefix, adapter=adapter)
    return Made(file, prompt, ("input",) if fields == "one" else ("a", "b"))


def _tensors(kind: Kind, length: int, seed: int) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Loud enough that swapping two is heard."""
    found = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return found.standard_normal(shape, np.float32)

    if kind == "embeddings":
        return {"embeddings": normal(length, HIDDEN)}
    if kind == "prefix":
        shape = (LAYERS, KV_HEADS, length, HEAD_DIM)
        return {"key": normal(*shape), "value": normal(*shape)}
    if kind == "adapter":
        layers = 1 + seed % LAYERS
        return {"prompts": normal(layers, length, HIDDEN), "gate": 8 * normal(layers, (1, HEADS)[seed % 2])}
    return {}


def inputs(draw: Random, fields: tuple[str, ...]) -> Any:
    values = {name: "".join(draw.choice(WORDS) for _ in range(draw.choice((0, 1, 3, 3, 10)))) for name in fields}
    return values[fields[0]] if len(fields) == 1 and draw.random() < 0.7 else values


def parameters(draw: Random) -> dict[str, Any]:
    """Always with logprobs: ids are told with them. What is sampled has its seed."""
    found: dict[str, Any] = {"max_new_tokens": draw.choice((1, 2, 6, 6, 12)), "logprobs": draw.choice((0, 0, 3))}
    found["ignore_eos"] = draw.random() < 0.5
    if draw.random() < 0.2:
        found["repetition_penalty"] = 1.3
    if draw.random() < 0.1:
        found["stop"] = [draw.choice(("a", "e", " ", "th"))]
    if draw.random() < 0.6:
        found |= {"temperature": draw.choice((0.3, 1.0, 3.0)), "seed": draw.randrange(2**53)}
        found |= draw.choice(({}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.05}, {"top_k": 60, "top_p": 0.5}))
    if draw.random() < 0.1:
        found["n"] = draw.choice((2, 3))
    return found
