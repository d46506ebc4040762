"""A GPU's kernels serve where they run and agree with torch, and are left out, with the reason, where they do not."""

import inspect
from typing import Any

import pytest
import torch

from server.engine.gpu import trial
from server.engine.gpu.binding import GpuKernels, launch

pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
"""What was not written may be any number; a GPU says nothing of it."""

CPU = torch.device("cpu")
KERNELS = ("norm", "gate", "rotate", "write", "attend_one", "attend_run", "attend_beside")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kernels_that_agree_are_no_trouble(dtype: torch.dtype) -> None:
    """In Triton's interpreter."""
    assert trial.trouble(GpuKernels(dtype, 6), CPU, trial.Heads()) is None


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_that_does_nothing_is_found_out(name: str) -> None:
    """Each of them is tried."""

    def some(kernel: Any, grid: tuple[int, ...], *given: Any, **named: Any) -> None:
        if kernel.fn.__name__ != name:
            launch(kernel, grid, *given, **named)
        else:
            for place, parameter in enumerate(inspect.signature(kernel.fn).parameters):
                if parameter in {"out", "parts", "tops"}:  # memory that was free may hold the answer of a test before
                    given[place].zero_()

    told = trial.trouble(GpuKernels(torch.float32, 6, some), CPU, trial.Heads())
    assert told is not None
    assert told.startswith("Triton's are off by")


def test_what_does_not_compile_is_told() -> None:
    """In a line, whatever it raises: an image without a C compiler, a folder that cannot be written."""

    def failing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("a trace\nFailed to find C compiler")

    told = trial.trouble(GpuKernels(torch.float32, 6, failing), CPU, trial.Heads())
    assert told == "Triton's do not run here: FileNotFoundError: Failed to find C compiler"
