"""A thread's tile registers (AMX) are configured after the kernels as they were before: torch uses them too."""

import ctypes
import mmap
from pathlib import Path

import torch

from server.engine.kernels import Kernels, Layer, Rows, Run
from tests.server.engine.kinds import draw, kernels_of

LOAD, STORE = bytes.fromhex("c4e2784907c3"), bytes.fromhex("c4e2794907c3")
"""ldtilecfg and sttilecfg of what the first argument points at, and a return."""
PALETTE = bytes([1] + 15 * [0] + 8 * [32, 0] + 16 * [0] + 8 * [5] + 8 * [0])
"""Eight tiles of 5 rows of 32 bytes: none of the kernels' own."""


def test_the_tiles_of_whom_the_thread_belongs_to_are_as_they_were() -> None:
    """Of a processor without tiles nothing is asked."""
    if "amx_tile" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return
    kernel = kernels_of("native-bfloat16")
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(LOAD + STORE)
        at = ctypes.addressof(here := ctypes.c_char.from_buffer(code))
        load, store = (ctypes.CFUNCTYPE(None, ctypes.c_char_p)(at + len(LOAD) * index) for index in (0, 1))
        found = ctypes.create_string_buffer(64)
        attended(kernel)  # the process asks for the registers when the kernels are loaded
        for before in (PALETTE, bytes(64)):
            load(before)
            attended(kernel)
            store(found)
            assert found.raw == before
        del here


def attended(kernel: Kernels) -> None:
    x = draw(1, 20, 64, dtype=torch.bfloat16)
    cache, at = draw(1, 1, 32, 64, dtype=torch.bfloat16), torch.arange(20)
    layer = Layer(cache, cache.clone(), torch.tensor([32]), 0.1, 32, None)
    kernel.attend(x, x, x, layer, Rows(torch.zeros_like(at), at, 0, (Run(0, 20, 0, 0),)))
