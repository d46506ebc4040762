"""What an exception of the base or its device means: no memory, a lost device, or neither.

Knows exceptions of torch by class and, where it has none of their own, by words; no steps, no requests.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import torch

log = logging.getLogger(__name__)

_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED")
"""cuBLAS says the last where it finds no memory for itself."""
_DEVICE = (
    "CUDA error", "device-side assert", "HIP error", "CUDNN_STATUS_EXECUTION_FAILED", "Triton Error [CUDA]: an illegal",
    "Triton Error [CUDA]: misaligned", "Triton Error [CUDA]: unspecified launch failure",
)  # fmt: skip


class Trouble(Enum):
    """MEMORY: with less to do it may work. DEVICE: nothing works there any more. OTHER: whatever else."""

    MEMORY = "memory"
    DEVICE = "device"
    OTHER = "other"


class DeviceLost(Exception):  # noqa: N818 - what happened reads better than SomethingError
    """A kernel failed for good: whatever the device is asked from here on is wrong or raises too."""


def trouble_of(error: BaseException) -> Trouble:
    """By the exception and those that it came from."""
    found = [_of_one(one) for one in _chain(error)]
    return next((trouble for trouble in (Trouble.DEVICE, Trouble.MEMORY) if trouble in found), Trouble.OTHER)


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _of_one(error: BaseException) -> Trouble:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Trouble.MEMORY
    if isinstance(error, DeviceLost):
        return Trouble.DEVICE
    if isinstance(error, RuntimeError):  # torch.AcceleratorError is one
        if any(words in str(error) for words in _MEMORY):
            return Trouble.MEMORY  # CUDA too says so of a call outside of its allocator, and lives on
        if isinstance(error, torch.AcceleratorError) or any(words in str(error) for words in _DEVICE):
            return Trouble.DEVICE
    return Trouble.OTHER


@contextmanager
def whatever_happens() -> Iterator[None]:
    """Where something has crashed before, the rest is done all the same."""
    try:
        yield
    except Exception:
        log.exception("the engine cannot end as it should")
