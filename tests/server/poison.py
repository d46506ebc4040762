"""Soft prompts with numbers that no upload would let in: put into a store's files, or over a resident's in memory."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prompt_store import container, manifest
from prompt_store.container import Tensor
from prompt_store.metadata import Kind, Metadata
from prompt_store.prompt import KEY, digest_of
from prompt_store.task import Task
from server.engine.request import Prompt
from tests.server.site import Site, until

Values = npt.NDArray[np.float32]
LENGTH = 4
LAYERS, KV_HEADS, HEAD_DIM, HIDDEN, HEADS = 3, 2, 16, 64, 4
"""Of the small random Llama."""
KINDS: tuple[Kind, ...] = ("embeddings", "prefix", "adapter")


def _everywhere(value: float) -> Callable[[Values], None]:
    def put(values: Values) -> None:
        values[...] = value

    return put


def _once(value: float) -> Callable[[Values], None]:
    """In the last number of all: of a prefix and of an adapter that is the last layer."""

    def put(values: Values) -> None:
        values.reshape(-1)[-1] = value

    return put


POISONS: dict[str, Callable[[Values], None]] = {
    "NaN": _everywhere(math.nan),
    "one NaN at the end": _once(math.nan),
    "infinity": _everywhere(math.inf),
    "one infinity at the end": _once(math.inf),
    "minus infinity": _everywhere(-math.inf),
    "1e38": _everywhere(1e38),
}


def tensors(kind: Kind) -> dict[str, Values]:
    """A sound soft prompt by the names of its file's tensors."""
    draw = np.random.default_rng(7)
    shapes: dict[Kind, dict[str, tuple[int, ...]]] = {
        "embeddings": {"embeddings": (LENGTH, HIDDEN)},
        "prefix": dict.fromkeys(("key", "value"), (LAYERS, KV_HEADS, LENGTH, HEAD_DIM)),
        "adapter": {"gate": (2, HEADS), "prompts": (2, LENGTH, HIDDEN)},
    }
    return {name: draw.standard_normal(shape, np.float32) for name, shape in shapes[kind].items()}


def file_of(kind: Kind, values: dict[str, Values], template: str = "{text}") -> bytes:
    """A prompt file, unchecked."""
    written = {name: Tensor("F32", array.shape, array.tobytes()) for name, array in values.items()}
    return container.write({KEY: Metadata(kind, LENGTH, template, "").to_json()}, written)


def put_into_files(store: Path, name: str, kind: Kind, data: bytes) -> None:
    """A version as the store would keep it, blob and manifest with their digests right."""
    digest = digest_of(data)
    metadata = Metadata(kind, LENGTH, "{text}", "")
    task = Task(name, 1, "publish", digest, len(data), metadata, False, 0, "by-hand", None, None)
    for key, content in (
        (f"blobs/{digest}.safetensors", data),
        (f"tasks/{name}!/00000001.json", manifest.write(task)),
    ):
        (store / key).parent.mkdir(parents=True, exist_ok=True)
        (store / key).write_bytes(content)


def poison(site: Site, name: str, put: Callable[[Values], None]) -> None:
    """The task's resident numbers become others, under the digest that they had; its requests feed them themselves."""
    engine = site.desk.room.running.engine
    digest = site.http.get(f"/tasks/{name}").json()["digest"]
    site.generate("x", name, max_new_tokens=1)
    sound = engine.resident(digest)
    assert sound is not None
    rows, prefix = (None if array is None else array.copy() for array in (sound.rows, sound.prefix))
    adapter = None if sound.adapter is None else (sound.adapter[0].copy(), sound.adapter[1].copy())
    for array in (rows, prefix, *(adapter or ())):
        if array is not None:
            put(array)
    head = () if prefix is None else sound.head[: prefix.shape[3]]
    sick = Prompt(digest, rows, head, prefix, adapter)
    engine.drop(digest)
    engine.load(sick)
    until(lambda: site.idle() and engine.resident(digest) is not None, "the sick prompt is resident")


def bad_file(site: Site, kind: Kind, task: str) -> str:
    """A task past the upload's checks, whose numbers are finite as they are read and overflow in the pass."""
    values = tensors(kind)
    for array in values.values():
        POISONS["1e38"](array)
    put_into_files(Path(site.desk.settings.store), task, kind, file_of(kind, values))
    return task
