"""The safetensors container: a bounded parser of our own, which the library must agree with, and a canonical writer.

The library alone takes headers of 99 MB, duplicate names, unknown keys and leading blanks; a prompt file with any of
these is refused before anything is allocated. Knows nothing of kinds, metadata or tasks.
Format: https://huggingface.co/docs/safetensors (8 bytes little-endian header length, JSON header, data).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
import safetensors
from numpy.typing import NDArray

from prompt_store.errors import PromptError

HEADER_LIMIT = 64 * 1024
"""Bytes. The library's own limit is 100 MB, which costs it seconds and gigabytes."""
RANK_LIMIT = 8
SIZE_LIMIT = 2**62

DType = Literal["F32", "F16", "BF16"]
ITEM_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
ENTRY_KEYS = frozenset({"dtype", "shape", "data_offsets"})


Buffer = bytes | memoryview
PIECE_BYTES = 2**20
"""What is looked at in one go where all of a tensor has to be."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Little-endian values in C order. numpy has no bfloat16, hence bytes; of a file that was read, a view."""

    dtype: DType
    shape: tuple[int, ...]
    data: Buffer

    def float32(self) -> NDArray[np.float32]:
        """The values widened to float32, without loss."""
        if self.dtype == "BF16":
            wide = np.frombuffer(self.data, "<u2").astype("<u4") << 16
            return wide.view("<f4").astype(np.float32, copy=False).reshape(self.shape)
        return np.frombuffer(self.data, "<f4" if self.dtype == "F32" else "<f2").astype(np.float32).reshape(self.shape)

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """The same, row by row of the last dimension, a few rows at a time: [rows, last]. Nothing for no values."""
        row = (self.shape[-1] if self.shape else 1) * ITEM_BYTES[self.dtype]
        step = max(1, PIECE_BYTES // row) * row if row else 1
        for begin in range(0, len(self.data), step):
            piece = memoryview(self.data)[begin : begin + step]
            yield Tensor(self.dtype, (len(piece) // row, row // ITEM_BYTES[self.dtype]), piece).float32()

    def is_finite(self) -> bool:
        return all(bool(np.isfinite(piece).all()) for piece in self.pieces())

    @classmethod
    def from_float32(cls, array: NDArray[np.float32], dtype: DType = "F32") -> "Tensor":
        """Round to nearest even. Raises `overflows_dtype` where a finite value has no finite counterpart."""
        values = np.asarray(array, np.dtype("<f4"), order="C")
        if dtype == "BF16":
            bits = values.view("<u4")
            # Adding half a unit to a NaN could carry into the sign: NaNs keep their upper half, quieted.
            rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
            data = np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2").tobytes()
        else:
            with np.errstate(over="ignore"):
                data = values.astype("<f4" if dtype == "F32" else "<f2").tobytes()
        tensor = cls(dtype, tuple(array.shape), data)
        if not np.array_equal(np.isfinite(tensor.float32()), np.isfinite(values)):
            raise PromptError("overflows_dtype", f"a value is too large for {dtype}")
        return tensor


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor as the header describes it; `begin` and `end` count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """`size` is where the data begins, `data_bytes` what must follow; entries stand in the order of their data."""

    metadata: Mapping[str, str]
    entries: tuple[Entry, ...]
    size: int
    data_bytes: int


def bad_header(message: str) -> PromptError:
    """The one code for a header that is not what the format says."""
    return PromptError("bad_header", message)


def header_length(data: bytes, limit: int) -> int:
    """The length that the first 8 bytes claim, checked before anything is read or allocated."""
    if len(data) < 8:
        raise PromptError("file_too_short", f"a safetensors file has at least 10 bytes, got {len(data)}")
    length = int.from_bytes(data[:8], "little")
    if length > limit:
        if data[8:9] not in {b"", b"{"}:
            raise bad_header("not a safetensors file; nothing else is accepted (no pickle, no archive)")
        raise PromptError("header_too_large", f"the header may have {limit} bytes, it claims more")
    return length


def parse_header(data: bytes, limit: int = HEADER_LIMIT) -> Header:
    """Read the header at the start of `data`, which may stop short of the tensors' bytes."""
    length = header_length(data, limit)
    if len(data) < 8 + length:
        raise bad_header(f"the header claims {length} bytes, {len(data) - 8} follow")
    text = data[8 : 8 + length].rstrip(b" ")
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise bad_header("not a safetensors file: the header is not a JSON object padded with spaces")
    try:
        fields = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_number,
            parse_float=_refuse_number,
            parse_int=_natural,
        )
    except (ValueError, RecursionError):
        raise bad_header("the header is not a JSON object in UTF-8") from None
    if not isinstance(fields, dict):
        raise bad_header("the header is not a JSON object")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise bad_header("__metadata__ must map strings to strings")
    entries = sorted((_entry(name, fields[name]) for name in fields), key=lambda entry: (entry.begin, entry.end))
    return Header(metadata, tuple(entries), 8 + length, _check_layout(entries))


def check_library_agrees(data: bytes) -> None:
    """Raises PromptError. The library copies all tensors: it is asked last, of a file that is to be taken."""
    try:
        safetensors.deserialize(data)
    except safetensors.SafetensorError:
        raise bad_header("the safetensors library refuses the file") from None


def read(data: bytes) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a whole file, by our parser alone. Every byte must belong to exactly one tensor."""
    header, view = parse_header(data), memoryview(data)
    got = len(data) - header.size
    if got != header.data_bytes:
        raise bad_header(f"the tensors need {header.data_bytes} bytes, {got} follow the header")
    tensors = {}
    for entry in header.entries:
        if not _is_dtype(entry.dtype):
            raise PromptError("bad_dtype", f"tensors must be one of {', '.join(ITEM_BYTES)}")
        if _items(entry.shape) * ITEM_BYTES[entry.dtype] != entry.end - entry.begin:
            raise bad_header("a tensor's shape and dtype do not agree with its bytes")
        begin, end = header.size + entry.begin, header.size + entry.end
        tensors[entry.name] = Tensor(entry.dtype, entry.shape, view[begin:end])
    return header.metadata, tensors


def write(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> bytes:
    """Canonical bytes: metadata first, tensors by name, no spaces but the padding that aligns the data to 8."""
    fields: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for name, tensor in sorted(tensors.items()):
        end = position + len(tensor.data)
        fields[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [position, end]}
        position = end
    header = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > HEADER_LIMIT:
        raise PromptError("header_too_large", f"the header may have {HEADER_LIMIT} bytes, it needs {len(header)}")
    return len(header).to_bytes(8, "little") + header + b"".join(tensors[name].data for name in sorted(tensors))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, value in pairs:
        # Lone surrogates pass json.loads; encoding raises a ValueError for them.
        key.encode()
        if isinstance(value, str):
            value.encode()
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


def _refuse_number(_: str) -> None:
    raise ValueError


def _natural(digits: str) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise ValueError
    return int(digits)


def _is_dtype(value: str) -> TypeGuard[DType]:
    return value in ITEM_BYTES


def _items(shape: tuple[int, ...]) -> int:
    items = 1
    for size in shape:
        items *= size
        if items > SIZE_LIMIT:
            raise bad_header("a tensor's shape is too large")
    return items


def _entry(name: str, value: Any) -> Entry:
    if not isinstance(value, dict) or value.keys() != ENTRY_KEYS:
        raise bad_header("a tensor entry must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise bad_header("a tensor's dtype must be a string")
    if not _are_naturals(shape) or not _are_naturals(offsets) or len(offsets) != 2:
        raise bad_header("a tensor's shape and data_offsets must be lists of whole numbers")
    if len(shape) > RANK_LIMIT:
        raise bad_header(f"a tensor may have {RANK_LIMIT} dimensions, got {len(shape)}")
    _items(tuple(shape))
    return Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _are_naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _check_layout(entries: list[Entry]) -> int:
    """No hole, no overlap: each tensor begins where the one before it ends. Returns the bytes of all of them."""
    position = 0
    for entry in entries:
        if entry.begin != position or entry.end < entry.begin:
            raise bad_header("the tensors' bytes must follow each other without hole or overlap")
        position = entry.end
    return position
