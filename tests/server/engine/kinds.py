"""Kernels of both kinds, random numbers for them, and how far their answers may lie from float64."""

import pytest
import torch

from server.engine.gpu.binding import GpuKernels
from server.engine.kernels import Kernels
from server.engine.native.binding import kernels

CPU = torch.device("cpu")
PROCESSORS = 6
"""Of the device that the GPU's kernels are told of: few rows are shared out among programs, many are not."""
LEVELS = {"native": None, "native3": 3, "native0": 0}
"""Of the instruction set: this machine's own, and what other machines run."""
KINDS = {
    **{f"{level}-float32": torch.float32 for level in LEVELS},
    **{f"{level}-bfloat16": torch.bfloat16 for level in LEVELS},
    "gpu-float32": torch.float32,
    "gpu-float16": torch.float16,
}
"""Triton's interpreter computes no matrix products in bfloat16: float16 stands for both there."""


def kernels_of(kind: str) -> Kernels:
    if kind.startswith("gpu"):
        return GpuKernels(KINDS[kind], PROCESSORS)
    found = kernels(KINDS[kind], CPU, LEVELS[kind.partition("-")[0]])
    if isinstance(found, str):
        pytest.skip(f"no native kernels: {found}")
    return found


def draw(*size: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Within float32's rounding of a sum, or bfloat16's of a result (one part in 256) and of softmax weights."""
    tolerance = 2e-6 if found.dtype == torch.float32 else 1e-2
    assert found.shape == wanted.shape
    assert float((found.double() - wanted).abs().max()) <= tolerance * max(1.0, float(wanted.abs().max()))
