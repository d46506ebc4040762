"""What kernels of our own do between the matrix products, whoever's they are: compiled for a CPU, or for a GPU.

Knows tensors and shapes; no model, no device. `native` and `gpu` have them.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch


@dataclass(frozen=True, slots=True)
class Run:
    """Rows `first` .. `first` + `count` - 1 of a pass, which stand in one slot from position `past` on."""

    first: int
    count: int
    slot: int
    past: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Where every row of a pass stands: slots, positions int64 [N]; slot -1 is nobody's.

    The first `decodes` rows have a slot each; the rest are of `runs`, or nobody's. `apart`: how a row is computed may
    depend on how many rows there are, and on nothing else of the others.
    """

    slots: torch.Tensor
    positions: torch.Tensor
    decodes: int
    runs: tuple[Run, ...] = ()
    apart: bool = False
    _blocks: dict[int, torch.Tensor] = field(default_factory=dict)

    def blocks(self, size: int) -> torch.Tensor:
        """The runs in pieces of `size` rows, int64 [n, 4]: as a run's four numbers. Made once a pass."""
        if size not in self._blocks:
            cut = [
                (run.first + at, min(size, run.count - at), run.slot, run.past + at)
                for run in self.runs
                for at in range(0, run.count, size)
            ]
            self._blocks[size] = torch.tensor(cut, dtype=torch.int64, device=self.slots.device)
        return self._blocks[size]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's cache and the call's constants: keys and values [slots, H_kv, span, D], the last `window` are seen.

    `spans`: int64 [1], the span once more, where the cache is: it may change between recording a pass and its replay.
    `softcap` c turns a score s into c tanh(s / c), as Gemma 2 does; None leaves scores alone.
    """

    keys: torch.Tensor
    values: torch.Tensor
    spans: torch.Tensor
    scale: float
    window: int
    softcap: float | None

    def capped(self, scores: torch.Tensor) -> torch.Tensor:
        return scores if self.softcap is None else scores.div_(self.softcap).tanh_().mul_(self.softcap)


class Kernels(Protocol):
    """Those for one dtype on one device. No other sequence's numbers change a bit of a row's answer."""

    dtype: torch.dtype

    def fits(self, size: int) -> bool:
        """Whether heads of this size can be attended to."""

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """RMS norm over the last dimension of contiguous x [..., d]; weight [d]."""

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up of contiguous x [..., 2 d], gate in front of up -> [..., d]."""

    def rotate(  # noqa: PLR0913, PLR0917 - one kernel's inputs
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: int,
        kv_heads: int,
        norms: tuple[torch.Tensor, torch.Tensor] | None = None,
        eps: float = 0.0,
    ) -> None:
        """In place: contiguous x [N, (H + 2 H_kv) D], queries, keys, values; cos, sin contiguous [N, D].

        `norms`: weights [D] of an RMS norm that every query's and every key's head gets first.
        """

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: Layer, rows: Rows) -> torch.Tensor:
        """Writes every row's k and v into its slot; each query attends to its own slot up to itself -> [N, H, D].

        q [H, N, D], k, v [H_kv, N, D], a head's elements side by side. A row of slot -1 is left out and gets zeros.
        Raises ValueError for what another family may hand over: a kernel would read what is not there.
        """

    def best(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every row of contiguous [R, V]: the largest, float32 [R], NaN where there is one, and its first index."""

    def log_sums(self, logits: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        """Of every row of contiguous [R, V], whose largest is best, float32 [R]: ln of the sum of e^(x - best), [R]."""


@runtime_checkable
class BankedKernels(Kernels, Protocol):
    """Those that read the adapters of a pass from one tensor."""

    def attend_side(  # noqa: PLR0913, PLR0917 - one kernel's inputs
        self,
        q: torch.Tensor,
        rows: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        gates: torch.Tensor,
        which: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Of the queries `rows` of q [H, N, D]: gate * softmax(q k / sqrt(D)) v over one of A banks each -> [n, H, D].

        keys, values contiguous [A, H_kv, p, D], gates contiguous [A, H, 1]; rows, which int64 [n], lengths int64 [A].
        """


@runtime_checkable
class PointedKernels(Kernels, Protocol):
    """Those that read every adapter where it lies."""

    def attend_beside(
        self, q: torch.Tensor, rows: torch.Tensor, table: torch.Tensor, layer: int, kv_heads: int
    ) -> torch.Tensor:
        """The same of each query's own adapter in this layer, zeros where it has none there -> [n, H, D].

        table int64 [5, n]: addresses of keys [L_top, H_kv, p, D], values and gates [L_top, H], all contiguous and in
        the dtype of q; the lowest adapted layer; p, which is 0 for a query without one.
        """


def check_shapes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: Layer, rows: Rows) -> None:
    """Of what a family's code hands to `attend`. Raises ValueError."""
    (_, count, size), keys = q.shape, layer.keys
    if k.shape != (*keys.shape[1:2], count, size) or v.shape != k.shape or keys.shape[3] != size:
        raise ValueError(f"queries {[*q.shape]}, keys {[*k.shape]} and values {[*v.shape]} do not fit together")
    if len(rows.slots) != count or len(rows.positions) != count:
        raise ValueError(f"{count} rows, and slots and positions for {len(rows.slots)} and {len(rows.positions)}")
    if not q.dtype == k.dtype == v.dtype == keys.dtype:
        raise ValueError(f"queries {q.dtype}, keys {k.dtype}, values {v.dtype}: {keys.dtype} is wanted")
