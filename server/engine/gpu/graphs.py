"""Work on a GPU as a CUDA graph: recorded once, launched again as one. Knows streams; not what the work is."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

WARM = 2
"""Runs before the one that is recorded: what compiles or allocates at its first use must not do so while recording."""


class CudaRecorder:
    """Records with one pool of memory for all: only one recording runs at a time, and never two at once."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """What `work` gave, and a call that makes the same tensors anew from what its inputs hold by then.

        Raises RuntimeError for work that looks at a number on its way, or cannot be recorded for another reason.
        """
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                work()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            found = work()
        return found, graph.replay
