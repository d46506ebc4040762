"""Which tokens of a pass use which adapter, as its attention wants it: side by side, or by where each lies in memory.

Knows adapters and kernels; no sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.engine.adapters import Adapter, Bank, BankSide, Side
from server.engine.kernels import BankedKernels, PointedKernels
from server.engine.model import BaseModel

POINTS = 5
"""Numbers of a `Pointed`'s table for each token."""


@dataclass(frozen=True, slots=True)
class PointedSide:
    """Tokens `rows` int64 [n], and a table int64 [POINTS, n] that tells where the adapter of each lies."""

    kernels: PointedKernels
    rows: torch.Tensor
    table: torch.Tensor
    kv_heads: int

    def term(self, layer: int, query: torch.Tensor) -> torch.Tensor | None:
        return self.kernels.attend_beside(query, self.rows, self.table, layer, self.kv_heads)


def points(adapter: Adapter | None, layers: int) -> tuple[int, ...]:
    """Of a base with so many layers: addresses of keys, values and gate, the lowest layer, rows; zeros for none.

    They hold as long as the adapter is held.
    """
    if adapter is None:
        return (0,) * POINTS
    addresses = (one.data_ptr() for one in (adapter.keys, adapter.values, adapter.gate))
    return (*addresses, layers - len(adapter.keys), adapter.keys.shape[2])


class Sides:
    """Of one base. `apart`: each sequence's for itself, so that no neighbour decides on a shape."""

    def __init__(self, base: BaseModel, *, apart: bool) -> None:
        self._base = base
        self._apart = apart
        self._banks: dict[tuple[Adapter, ...], Bank] = {}

    def of(self, adapted: list[tuple[int, int, Adapter]]) -> Sequence[Side]:
        """`adapted`: first token, number of tokens, their adapter."""
        if not adapted:
            return []
        if isinstance(self._base.kernels, PointedKernels):
            return [self._pointed(self._base.kernels, adapted)]
        return self._banked([[one] for one in adapted] if self._apart else [adapted])

    def _pointed(self, kernels: PointedKernels, adapted: list[tuple[int, int, Adapter]]) -> Side:
        shape, on = self._base.shape, self._base.device
        rows = [row for first, count, _ in adapted for row in range(first, first + count)]
        told = [points(adapter, shape.layers) for _, count, adapter in adapted for _ in range(count)]
        table = torch.tensor(told, dtype=torch.int64).T.contiguous().to(on)
        return PointedSide(kernels, torch.tensor(rows, device=on), table, shape.kv_heads)

    def _banked(self, groups: list[list[tuple[int, int, Adapter]]]) -> list[Side]:
        """Banks are kept from step to step as long as the same adapters are at work."""
        used = {tuple(dict.fromkeys(adapter for _, _, adapter in group)) for group in groups}
        layers, found = self._base.shape.layers, self._base.kernels
        kernels = found if isinstance(found, BankedKernels) else None
        self._banks = {adapters: self._banks.get(adapters) or Bank(adapters, layers, kernels) for adapters in used}
        return [self._side(group) for group in groups]

    def _side(self, group: list[tuple[int, int, Adapter]]) -> Side:
        adapters, on = tuple(dict.fromkeys(adapter for _, _, adapter in group)), self._base.device
        bank, place = self._banks[adapters], {adapter: index for index, adapter in enumerate(adapters)}
        rows = [row for first, count, _ in group for row in range(first, first + count)]
        which = [place[adapter] for _, count, adapter in group for _ in range(count)]
        return BankSide(bank, bank.laid_out(torch.tensor(which, device=on)), torch.tensor(rows, device=on))
