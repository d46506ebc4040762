"""Prompt files with one thing wrong, made from one that is good."""

import json
from typing import Any

import numpy as np

from tests.server.site import peft_file

HIDDEN, CONTEXT = 64, 256
"""Of the small random base."""
ROW = 4 * HIDDEN
"""Bytes."""
NAME = "prompt_embeddings"


def array(value: float = 1.0, length: int = 2) -> np.ndarray[Any, Any]:
    return np.full((length, HIDDEN), value, np.float32)


GOOD = peft_file(array())
SIZE = int.from_bytes(GOOD[:8], "little")
HEADER, DATA = GOOD[8 : 8 + SIZE], GOOD[8 + SIZE :]


def file(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """Any header, any data; `length` is what the file claims its header has."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(**changes: Any) -> dict[str, Any]:
    """The good file's one tensor, some of it changed."""
    return {"dtype": "F32", "shape": [2, HIDDEN], "data_offsets": [0, 2 * ROW]} | changes


def tensor(name: str = NAME, data: bytes = DATA, **changes: Any) -> bytes:
    """A file of one tensor."""
    return file({"__metadata__": {"format": "pt"}, name: entry(**changes)}, data)


def pair(first: list[int], second: list[int], size: int = 4 * ROW) -> bytes:
    """Two tensors of two rows at these offsets, in this many bytes."""
    return file({"a": entry(data_offsets=first), "b": entry(data_offsets=second)}, bytes(size))


def last(value: float) -> bytes:
    """Good but for its last number."""
    values = array()
    values[-1, -1] = value
    return peft_file(values)
