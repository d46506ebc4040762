"""A base as it is on a GPU, on a CPU: merged products, Triton's kernels in its interpreter, passes on a tape."""

from functools import partial
from pathlib import Path

from server.engine.gpu.binding import GpuKernels
from server.engine.layers import exchange
from server.engine.model import BaseModel
from server.engine.norms import fused_norms
from server.engine.packing import MergedLinear, packed_linears
from tests.server.engine.gpu.tape import Tape

PROCESSORS = 6
"""As few as make one sequence's keys be shared out among programs, and those of many not."""


def base_on_tape(folder: Path) -> tuple[BaseModel, Tape]:
    """float32; what `BaseModel.load` does for CUDA, but for the device."""
    base, tape = BaseModel.load(folder, device="cpu", dtype="float32", packed=False, native=False), Tape()
    exchange(base.model, fused_norms)
    exchange(base.model, partial(packed_linears, make=MergedLinear))
    base.speed_up(GpuKernels(base.dtype, PROCESSORS, tape.launch))
    base.recorder = lambda: tape.record
    return base, tape
