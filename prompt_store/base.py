"""Which frozen model this is: a fingerprint that is cheap, portable, and another one for another checkpoint.

Reads safetensors shards and config.json. Knows no torch and no model code.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prompt_store.container import Header, parse_header
from prompt_store.errors import BaseDamaged, PromptError
from prompt_store.metadata import Base, canonical

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
HEADER_LIMIT = 100_000_000
"""Bytes: the library's own limit, as the files are the operator's."""
SAMPLE = 4096
"""Bytes hashed at either end of each tensor."""


def fingerprint(folder: Path) -> str:
    """Hex sha256 over names, dtypes, shapes and the ends of every tensor of the checkpoint in `folder`.

    Raises BaseDamaged, naming the file, when one is missing, cut short or has a header that cannot be read.
    """
    rows = sorted(row for shard in shards(folder) for row in _rows(shard))
    names = [row[0] for row in rows]
    if len(set(names)) != len(names):
        raise BaseDamaged("a tensor stands in two shards of the base")
    model_type = config_of(folder).get("model_type")
    text = canonical({"model_type": model_type, "tensors": rows})
    return hashlib.sha256(text.encode()).hexdigest()


SUMS = "SHA256SUMS"
"""A file in the format of `sha256sum`, beside the weights: the fingerprint reads only the ends of each tensor."""


def write_sums(folder: Path) -> None:
    """Record the whole of every weight and JSON file in `folder`."""
    names = sorted(path.name for kind in ("*.safetensors", "*.json") for path in folder.glob(kind))
    (folder / SUMS).write_text("".join(f"{_sum(folder / name)}  {name}\n" for name in names), encoding="utf-8")


def damaged(folder: Path) -> list[str] | None:
    """Names of files that are missing or not what `SHA256SUMS` says; None where nothing was recorded."""
    if not (folder / SUMS).is_file():
        return None
    recorded = (line.split("  ", 1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines() if line)
    return [name for digest, name in recorded if not (folder / name).is_file() or _sum(folder / name) != digest]


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_base(folder: Path, name: str | None = None) -> Base:
    """The base in `folder`, its sizes from config.json under the names that the model families use."""
    config = config_of(folder)
    inner = config.get("text_config")
    config = inner if isinstance(inner, dict) else config
    hidden = _size(config, "hidden_size", "n_embd", "d_model")
    embedded = _size(config, "word_embed_proj_dim", default=hidden)  # OPT's smaller ones project what they embed
    heads = _size(config, "num_attention_heads", "n_head", "num_heads")
    return Base(
        fingerprint=fingerprint(folder),
        name=folder.name if name is None else name,
        hidden=embedded,
        layers=_size(config, "num_hidden_layers", "n_layer", "num_layers"),
        kv_heads=_size(config, "num_key_value_heads", default=heads),
        head_dim=_size(config, "head_dim", default=hidden // heads),
    )


def shards(folder: Path) -> list[Path]:
    """The weights files: those that the index names, or the single one."""
    if not (folder / INDEX).exists():
        return [folder / SINGLE]
    index = json_of(folder / INDEX)
    weights = index.get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise BaseDamaged(f"{folder / INDEX} has no weight_map")
    # Path.name: an index may not point outside its folder.
    return sorted({folder / Path(str(name)).name for name in weights.values()})


def config_of(folder: Path) -> dict[str, Any]:
    """config.json as an object."""
    return json_of(folder / "config.json")


def json_of(path: Path) -> dict[str, Any]:
    """A file of the base as an object. Raises BaseDamaged, naming it."""
    try:
        value = json.loads(path.read_bytes())
    except OSError:
        raise BaseDamaged(f"{path.name} of the base is missing or cannot be read") from None
    except (ValueError, RecursionError):
        raise BaseDamaged(f"{path.name} of the base is not JSON") from None
    if not isinstance(value, dict):
        raise BaseDamaged(f"{path.name} of the base is not an object")
    return value


def _rows(path: Path) -> Iterator[list[Any]]:
    """[name, dtype, shape, sha256 of the first and last 4096 bytes] of each tensor of one shard."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            file.seek(0)
            header = _header(file.read(8 + min(length, HEADER_LIMIT)), path)
            if path.stat().st_size != header.size + header.data_bytes:
                raise BaseDamaged(f"{path.name} of the base is cut short or too long")
            for entry in header.entries:
                file.seek(header.size + entry.begin)
                first = file.read(min(SAMPLE, entry.end - entry.begin))
                file.seek(header.size + max(entry.begin, entry.end - SAMPLE))
                last = file.read(min(SAMPLE, entry.end - entry.begin))
                yield [entry.name, entry.dtype, list(entry.shape), hashlib.sha256(first + last).hexdigest()]
    except OSError:
        raise BaseDamaged(f"{path.name} of the base is missing or cannot be read") from None


def tensors_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of one shard, by its header alone. Raises BaseDamaged, naming the file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            file.seek(0)
            header = _header(file.read(8 + min(length, HEADER_LIMIT)), path)
    except OSError:
        raise BaseDamaged(f"{path.name} of the base is missing or cannot be read") from None
    return {entry.name: tuple(entry.shape) for entry in header.entries}


def _header(data: bytes, path: Path) -> Header:
    try:
        return parse_header(data, HEADER_LIMIT)
    except PromptError as error:
        raise BaseDamaged(f"{path.name} of the base: {error.message}") from None


def _size(config: dict[str, Any], *names: str, default: int | None = None) -> int:
    value = next((config[name] for name in names if config.get(name) is not None), default)
    if type(value) is not int or value < 1:
        raise BaseDamaged(f"config.json of the base lacks {' or '.join(names)}")
    return value
