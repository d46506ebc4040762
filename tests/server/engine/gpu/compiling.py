"""Compiles every kernel as a GPU would, on a machine without one: `python -m tests.server.engine.gpu.compiling 90`.

The interpreter runs what no compiler takes. The argument is a device's compute capability, and a dtype may follow; the
trial of a machine's kernels is what is gone through, but for the running. A line of JSON for each kernel compiled, and
the end where one is not. TRITON_INTERPRET has to be 0.
"""

import json
import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from server.engine.gpu import trial
from server.engine.gpu.binding import DTYPES, GpuKernels

HEADS = (trial.Heads(32, 8, 64), trial.Heads(32, 8, 128), trial.Heads(8, 4, 256), trial.Heads(12, 12, 80))
"""Of Llama 3's small and large sizes, Gemma 2 and GPT-2's kin."""
PROCESSORS = 132


class Absent:
    """A device that is only compiled for."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> Any:
        return self._target

    @staticmethod
    def get_current_device() -> int:
        return 0

    @staticmethod
    def get_current_stream(_device: int = 0) -> int:
        return 0

    @staticmethod
    def get_active_torch_device() -> torch.device:
        return torch.device("cpu")


def compiled(kernel: Any, grid: tuple[int, ...], *given: Any, **named: Any) -> None:
    found = kernel.warmup(*given, grid=grid, **named)
    ptx = found.asm["ptx"]
    told = {
        "kernel": kernel.fn.__name__,
        "dtype": str(given[0].dtype),
        "shared": found.metadata.shared,
        "matrix_units": "mma" in ptx,
        "binary": len(found.asm["cubin"]),
    }
    sys.stdout.write(json.dumps(told) + "\n")


def main() -> None:
    driver.set_active(Absent(int(sys.argv[1])))
    for dtype in DTYPES if not sys.argv[2:] else [getattr(torch, sys.argv[2])]:
        for heads in HEADS:
            told = trial.trouble(GpuKernels(dtype, PROCESSORS, compiled), torch.device("cpu"), heads)
            if told is None or not told.startswith("Triton's are off"):  # nothing ran, so all answers have to be wrong
                sys.exit(f"{dtype}, {heads}: {told}")


if __name__ == "__main__":
    main()
