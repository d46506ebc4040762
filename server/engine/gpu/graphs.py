"""Work on a GPU as a CUDA graph: recorded once, launched again as one. Knows streams; not what the work is."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


class CudaRecorder:
    """Records with one pool of memory and on one stream: no two recordings are played at once.

    One for each engine: a pool whose recordings have gone takes no new ones. One stream for everything, since cuBLAS
    keeps memory for each that it has ever been called on.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def __call__(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """What `work` gave, and a call that makes the same tensors anew from what its inputs hold by then.

        Whoever plays it keeps `work`, whose tensors it reads. Raises RuntimeError for work that looks at a number on
        its way, or cannot be recorded for another reason.
        """
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self._stream):
                work()  # what compiles or allocates at its first use must not do so while recording
                _without_a_look(work)
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    found = work()
        finally:  # what has been launched reads memory that is `current`'s, whatever became of the recording
            current.wait_stream(self._stream)
        return found, graph.replay


def _without_a_look(work: Callable[[], object]) -> None:
    """Raises RuntimeError where it waits for the device: a recording that fails of that leaves torch in the middle of
    one."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    finally:
        torch.cuda.set_sync_debug_mode(before)
