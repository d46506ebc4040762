"""A version's manifest: its Task as one JSON object with a checksum of its own. Knows no place and no blob."""

import hashlib
import json
from typing import Any, get_args

from prompt_store.errors import Corrupt, PromptError
from prompt_store.metadata import Metadata, canonical
from prompt_store.task import Event, Task

FORMAT = 1
KEYS = frozenset(
    {"format", "task", "version", "event", "digest", "bytes", "metadata", "verified", "created", "op_id", "previous"}
    | {"source_version", "checksum"}
)


def write(task: Task) -> bytes:
    """Canonical JSON; `checksum` is the sha256 of the same object without it."""
    fields = {
        "format": FORMAT,
        "task": task.name,
        "version": task.version,
        "event": task.event,
        "digest": task.digest,
        "bytes": task.bytes,
        "metadata": None if task.metadata is None else task.metadata.to_mapping(),
        "verified": task.verified,
        "created": task.created,
        "op_id": task.op_id,
        "previous": task.previous,
        "source_version": task.source_version,
    }
    return canonical({**fields, "checksum": _checksum(fields)}).encode()


def read(data: bytes, name: str, version: int) -> Task:
    """The Task that `data` holds. Raises Corrupt if a byte differs or it was written for another task or version."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise Corrupt("a manifest is not JSON") from None
    if isinstance(fields, dict) and "format" in fields and fields["format"] != FORMAT:
        raise Corrupt("a manifest is of another format than this server reads: a newer one wrote it")
    if not isinstance(fields, dict) or fields.keys() != KEYS:
        raise Corrupt("a manifest lacks keys, or a newer server wrote it")
    checksum = fields.pop("checksum")
    try:
        whole = checksum == _checksum(fields)
    except (ValueError, RecursionError):  # numbers and characters that no manifest of ours has
        whole = False
    if not whole:
        raise Corrupt("a manifest does not match its checksum")
    if fields["task"] != name or fields["version"] != version or fields["event"] not in get_args(Event):
        raise Corrupt("a manifest belongs to another task or version")
    try:
        metadata = None if fields["metadata"] is None else Metadata.from_mapping(fields["metadata"])
    except PromptError:
        raise Corrupt("a manifest holds metadata that this server cannot read") from None
    kept = {key: value for key, value in fields.items() if key not in {"format", "task", "metadata"}}
    return Task(name=name, metadata=metadata, **kept)


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(fields).encode()).hexdigest()
