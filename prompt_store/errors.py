# ruff: noqa: N818 - what happened reads better than SomethingError, and these names stand in the contract
"""Everything that can go wrong in the store, as one tree. Messages hold numbers and names of ours, never the input.

Exception
├── PromptError          a prompt file, its metadata or its template cannot be accepted; `code` says which way
├── InputsError          the inputs of a request do not match the fields of the template
├── BaseDamaged          the files of the base cannot be read
└── StoreError
    ├── TaskNotFound     the store positively says that there is no such task
    ├── VersionNotFound  the task has no such version
    ├── TaskDeleted      the newest version is a tombstone
    ├── VersionDeleted   the version that a rollback names is a tombstone
    ├── PreconditionFailed   If-Match or If-None-Match did not hold
    ├── OperationConflict    the operation id was already used for something else
    ├── Corrupt          a stored object is missing, damaged or not what its manifest promises
    ├── StoreUnavailable     the store cannot answer now
    │   ├── StoreRefuses     it answers, and may not be changed: read-only, or the credentials are
    │   └── StoreUnsuitable  nor later: the place is no store, or cannot keep one; somebody has to act
    ├── StoreFull        no space, no inodes or over a quota
    ├── OutcomeUnknown   a write may or may not have been kept; asking again with the same id resolves it
    └── VersionNotVisible    a version that the client has seen elsewhere has not arrived here yet
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_store.task import Task


class PromptError(Exception):
    """A prompt file, metadata or template that cannot be accepted. `code` is stable; clients switch on it."""

    def __init__(self, code: str, message: str) -> None:
        """`message` states expected and got as numbers or type names."""
        super().__init__(message)
        self.code = code
        self.message = message


class InputsError(Exception):
    """Inputs that lack a field of the template or bring one that it does not have."""

    def __init__(self, message: str) -> None:
        """`message` names fields of the template only."""
        super().__init__(message)
        self.message = message


class BaseDamaged(Exception):
    """A base whose files are missing, cut short or not what they say."""


class StoreError(Exception):
    """The root of what the store itself reports."""


class TaskNotFound(StoreError):
    """The store is up and has never heard of this task."""


class VersionNotFound(StoreError):
    """The task exists, the version does not."""


class TaskDeleted(StoreError):
    """The task's newest version is a tombstone."""

    def __init__(self, tombstone: "Task") -> None:
        """`tombstone` is the newest version."""
        super().__init__(f"deleted by version {tombstone.version}")
        self.tombstone = tombstone


class VersionDeleted(StoreError):
    """A tombstone holds no content that a rollback could bring back."""


class PreconditionFailed(StoreError):
    """`current` is the version that stands now; None when there is none."""

    def __init__(self, current: "Task | None") -> None:
        """`current` goes into the answer, so that the client can decide again."""
        super().__init__("the task has no version" if current is None else f"the task is at version {current.version}")
        self.current = current


class OperationConflict(StoreError):
    """An operation id names one change; this was another."""


class Corrupt(StoreError):
    """A stored object is missing, damaged, or not what its manifest promises."""


class StoreUnavailable(StoreError):
    """The store cannot answer now: never read as "there is nothing"."""


class StoreRefuses(StoreUnavailable):
    """The place answers, and may not be changed by us; nothing was."""


class StoreUnsuitable(StoreUnavailable):
    """The place is no store, or one that this server cannot read, or cannot keep a promise: waiting does not help."""


class StoreFull(StoreError):
    """No space, no inodes or over a quota; nothing was changed."""


class OutcomeUnknown(StoreError):
    """The write was made but not confirmed. The same operation again, with the same id, resolves it."""

    def __init__(self, op_id: str) -> None:
        """`op_id` is the id to ask again with."""
        super().__init__("the outcome of the operation is unknown")
        self.op_id = op_id


class VersionNotVisible(StoreError):
    """A version that the client asks for at least is not visible here yet."""
