"""One version of a task as its manifest records it, and what may be a task's name. Knows no bytes and no paths."""

import re
from dataclasses import dataclass
from typing import Literal

from prompt_store.metadata import Metadata

TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
RESERVED = frozenset({"base"})
"""Names that mean something else in a request: the bare model."""
MAX_VERSION = 99_999_999
"""Eight digits in a key."""

Event = Literal["publish", "rollback", "delete"]


@dataclass(frozen=True, slots=True)
class Task:
    """A version. A tombstone (`event` delete) has neither digest nor metadata and 0 bytes.

    `created` is in unix seconds, `previous` the version before it, `source_version` the one that a rollback copied.
    """

    name: str
    version: int
    event: Event
    digest: str | None
    bytes: int
    metadata: Metadata | None
    verified: bool
    created: int
    op_id: str
    previous: int | None
    source_version: int | None


def is_task_id(name: str) -> bool:
    """Whether `name` may be a task's: ASCII, no separator, not reserved. Case matters."""
    return TASK_ID.fullmatch(name) is not None and name not in RESERVED
