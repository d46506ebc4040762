"""A soft prompt's arrays as the base's tensors, and how many bytes that takes. Knows no budget and no requests."""

from server.engine.request import Prompt
from server.engine.residency import Resident
from server.engine.runner import Runner


class Loader:
    """Makes residents for the base of `runner`. `position_bytes`: keys and values of one position, all layers."""

    def __init__(self, runner: Runner, position_bytes: int, max_total_tokens: int) -> None:
        self._runner = runner
        self._position_bytes = position_bytes
        self._max_total_tokens = max_total_tokens

    def size(self, prompt: Prompt) -> int:
        """Bytes in memory: the head's keys and values, the tensors, and the arrays they came in, held as long."""
        base = self._runner.base
        size = len(prompt.head) * self._position_bytes + prompt.nbytes
        if prompt.rows is not None:
            size += prompt.rows.size * base.dtype.itemsize
        if prompt.adapter is not None:
            layers, rows, _ = prompt.adapter[0].shape
            per_row = 2 * base.shape.kv_heads * base.shape.head_dim
            size += layers * (rows * per_row + base.shape.heads) * base.dtype.itemsize
        return size

    def make(self, prompt: Prompt) -> Resident:
        """Raises whatever the base makes of arrays that do not fit it."""
        tensor = self._runner.base.tensor
        found = Resident(prompt, self.size(prompt), shared=len(prompt.head) < self._max_total_tokens)
        if prompt.rows is not None:
            found.rows = tensor(prompt.rows)
        if prompt.adapter is not None:
            found.adapter = self._runner.adapter(*prompt.adapter)
        if prompt.prefix is not None:
            found.kv, found.covered = tensor(prompt.prefix), prompt.prefix.shape[3]
        return found
