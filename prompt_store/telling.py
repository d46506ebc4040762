"""A version as JSON tells it, as far as the store itself knows: the fields of the contract, in its order."""

from typing import Any

from prompt_store.task import Task


def task_fields(task: Task) -> dict[str, Any]:
    """What its manifest says of a task, without when it was made. Raises ValueError for a tombstone."""
    metadata = task.metadata
    if metadata is None or task.digest is None:
        raise ValueError("a tombstone is no task")
    base = metadata.base
    return {
        "object": "task",
        "id": task.name,
        "version": task.version,
        "kind": metadata.kind,
        "length": metadata.length,
        "digest": task.digest,
        "bytes": task.bytes,
        "template": metadata.template,
        "target_delimiter": metadata.target_delimiter,
        "labels": None if metadata.labels is None else list(metadata.labels),
        "defaults": dict(metadata.defaults),
        "description": metadata.description,
        "metrics": dict(metadata.metrics),
        "base": None if base is None else {"fingerprint": base.fingerprint, "name": base.name},
        "verified": task.verified,
    }


def version_fields(task: Task) -> dict[str, Any]:
    """One line of a task's history."""
    return {
        "object": "task.version",
        "version": task.version,
        "event": task.event,
        "created": task.created,
        "digest": task.digest,
        "bytes": task.bytes,
        "previous": task.previous,
        "source_version": task.source_version,
    }
