"""Tasks of every kind for a base of random weights: files as a client publishes them, prompts as the engine has them.

Values are random, sizes are real. Knows the file format and the engine's request types; no engine, no HTTP.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.tokenizer import words
from benchmarks.workload import SEED
from prompt_store.container import Tensor
from prompt_store.metadata import KINDS, Base, Kind, Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, build
from prompt_store.template import Template
from server.engine.request import Prompt
from server.lookup import engine_prompt
from server.tokenizer import Tokenizer

SCALE = 0.06
"""Of rows: as large as the random base's own embeddings."""
UNADAPTED = 2
"""Layers below an adapter's, as in the paper's 30 of 32."""


def prompt_file(kind: Kind, length: int, index: int, base: Base, checkpoint: Path) -> PromptFile:
    """Task `index`: `length` pseudo-tokens, float32 as tuning leaves them; of kind text as many ids of text."""
    draw = np.random.default_rng([SEED, KINDS.index(kind), length, index])
    if kind == "text":
        chosen = "".join(draw.choice(words(checkpoint), length))
        return build(SoftPrompt("text", 0, {}), Metadata("text", 0, chosen + "{input}"))
    rows = (length, base.hidden)
    top = max(base.layers - UNADAPTED, 1)
    shapes: dict[str, dict[str, tuple[tuple[int, ...], float]]] = {
        "embeddings": {"embeddings": (rows, SCALE)},
        "prefix": dict.fromkeys(("key", "value"), ((base.layers, base.kv_heads, length, base.head_dim), 1.0)),
        "adapter": {"prompts": ((top, *rows), SCALE), "gate": ((top, 1), 0.5)},
    }
    tensors = {
        name: Tensor.from_float32((scale * draw.standard_normal(shape)).astype(np.float32))
        for name, (shape, scale) in shapes[kind].items()
    }
    return build(SoftPrompt(kind, length, tensors), Metadata(kind, length, "{input}", base=base))


def resident_prompts(files: Sequence[PromptFile], checkpoint: Path) -> list[Prompt]:
    """What the server makes of these files."""
    tokenizer = Tokenizer.load(checkpoint)
    return [engine_prompt(file, _template(file), tokenizer) for file in files]


def texts(checkpoint: Path, count: int, length: int) -> list[str]:
    """Inputs of exactly `length` ids each; more of them begin with the same ones."""
    known = words(checkpoint)
    chosen = np.random.default_rng(SEED + 3).integers(0, len(known), (count, length))
    return ["".join(known[word] for word in line) for line in chosen.tolist()]


def _template(file: PromptFile) -> Template:
    return Template.parse(file.metadata.template, file.metadata.kind, file.metadata.length)
