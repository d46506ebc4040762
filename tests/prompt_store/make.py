"""Prompt files, raw safetensors bytes and a tokenizer, made for the tests of this folder."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from prompt_store.container import DType
from prompt_store.keys import blob_key
from prompt_store.metadata import Base, Metadata
from prompt_store.objects import Objects
from prompt_store.prompt import PromptFile, SoftPrompt, Tensor, build
from prompt_store.store import Store
from prompt_store.task import Task

HIDDEN = 8
BASE = Base(fingerprint="ab" * 32, name="tiny", hidden=HIDDEN, layers=3, kv_heads=2, head_dim=4)
BOS = 0


def raw(header: bytes | Mapping[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(*shape: int, seed: int = 0, dtype: DType = "F32") -> Tensor:
    """Normal values, the same for the same seed."""
    return Tensor.from_float32(np.random.default_rng(seed).standard_normal(shape, np.float32), dtype)


def embeddings(
    length: int = 3, hidden: int = HIDDEN, *, seed: int = 0, dtype: DType = "F32", **fields: Any
) -> PromptFile:
    """A prompt file of kind embeddings; `fields` go into its metadata."""
    metadata = Metadata(**{"kind": "embeddings", "length": length, "template": "{input}", **fields})
    return build(
        SoftPrompt("embeddings", length, {"embeddings": tensor(length, hidden, seed=seed, dtype=dtype)}), metadata
    )


def text_task(template: str = "Say {input}", **fields: Any) -> PromptFile:
    """A prompt file of kind text."""
    return build(SoftPrompt("text", 0, {}), Metadata("text", 0, template, **fields))


@cache
def tokenizer() -> Tokenizer:
    """A small byte-level BPE with merges over spaces and letters, and three special tokens; BOS is id 0."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(
        ["premise hypothesis answer question positive negative the cat sat on the mat"] * 40, trainer
    )
    return made


def tokenize(text: str, parse_special: bool) -> list[int]:
    """The callable that templates are composed with."""
    made = tokenizer()
    made.encode_special_tokens = not parse_special
    ids: list[int] = made.encode(text, add_special_tokens=False).ids
    return ids


ONE, TWO, THREE = (embeddings(seed=seed) for seed in (1, 2, 3))


def put(store: Store, name: str, file: PromptFile, op_id: str = "", **options: Any) -> Task:
    """Publish with an operation id of its own."""
    number = sum(1 for _ in store.versions(name)) if name in {task.name for task in store.list(limit=10**6)[0]} else 0
    return store.publish(name, file, verified=False, op_id=op_id or f"{name}-{number}-{file.digest}", **options)[0]


def orphan(objects: Objects, file: PromptFile) -> str:
    """A file that no version names, as a publisher leaves it who died."""
    objects.create(blob_key(file.digest), file.data)
    return file.digest


def whole(store: Store) -> None:
    """Every version that can be seen is read, and stands in its place."""
    for task in store.list(limit=1000)[0]:
        for version in store.versions(task.name):
            if version.digest is not None:
                assert store.load(version).digest == version.digest
