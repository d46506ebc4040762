"""Why a job failed: every exception that may end one, in the words of its record.

Knows the tuner's and the store's errors; whatever is unknown is ours and stays unnamed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from prompt_store.errors import PreconditionFailed
from server.errors import KNOWN, as_fault
from tuning.examples import DataError
from tuning.plan import DivergedError


@dataclass(frozen=True, slots=True)
class Failure:
    """`code` and `message` as clients read them."""

    code: str
    message: str


INTERRUPTED_TOO_OFTEN = Failure("interrupted", "the server ended too often while this job ran")
OTHER_BASE = Failure("interrupted", "the server has another base now than when the job was created")
SUPERSEDED = Failure("superseded", "the task has another version now than when the job was created")
DAMAGED = Failure("interrupted", "the job's record is damaged")
NO_DATA = Failure("interrupted", "a file that the job learns from is gone")
INTERNAL = Failure("internal", "internal error; the job's id finds it in the server's log")


def failure(error: Exception) -> Failure:
    """What the record says of it: the first row that fits."""
    return next((say(error) for kind, say in _CAUSES if isinstance(error, kind)), INTERNAL)


def _faulty(error: Exception) -> Failure:
    fault = as_fault(error)
    return NO_DATA if fault.code == "file_not_found" else Failure(fault.code, fault.message)


_CAUSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Any], Failure]], ...] = (
    (DivergedError, lambda error: Failure("diverged", str(error))),
    (DataError, lambda error: Failure("bad_training_data", error.plain)),
    (PreconditionFailed, lambda _: SUPERSEDED),
    (KNOWN, _faulty),
    (ValidationError, lambda _: DAMAGED),
    (ValueError, lambda error: Failure("bad_training_data", str(error))),  # what the base cannot hold, say the tuner's
    (FileNotFoundError, lambda _: NO_DATA),
    (OSError, lambda _: Failure("store_full", "the disk of the jobs is full or not to be written")),
    ((MemoryError, torch.OutOfMemoryError), lambda _: Failure("out_of_memory", "a smaller batch_size may fit")),
)
