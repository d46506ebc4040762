"""Attention and side attention of every kind of kernels are torch's in float64, and no row minds its neighbours."""

import itertools
from collections.abc import Callable

import pytest
import torch

from server.engine.gpu.binding import GpuKernels
from server.engine.kernels import BankedKernels, Kernels, Layer, PointedKernels, Rows, Run
from tests.server.engine.kinds import PROCESSORS, close, draw

pytestmark = pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value|divide by zero|All-NaN slice) encountered:RuntimeWarning"
)
"""Triton's interpreter computes in numpy, which remarks on what a GPU says nothing of."""


class Cache:
    """Slots of random keys and values, and rows of a packed batch that belong to them."""

    def __init__(self, sizes: tuple[int, int, int], kernels: Kernels) -> None:
        self.kernels = kernels
        self.heads, self.kv_heads, self.size = sizes
        self.keys, self.values = (
            draw(5, self.kv_heads, 96, self.size, dtype=kernels.dtype, seed=seed) for seed in (1, 2)
        )
        # a decode late in slot 3, another in slot 2, a chunk of slot 0 behind 30 others, nobody's row, a first token
        at = [(3, 95), (2, 32), *((0, 30 + i) for i in range(40)), (-1, 0), (4, 0)]
        self.slots, self.positions = torch.tensor(at).T.contiguous()
        width = (self.heads + 2 * self.kv_heads) * self.size
        rows = draw(1, len(at), width, dtype=kernels.dtype, seed=3).view(1, len(at), -1, self.size).transpose(1, 2)
        self.q, self.k, self.v = (x[0] for x in rows.split((self.heads, self.kv_heads, self.kv_heads), dim=1))

    def run(self, window: int, softcap: float | None, pick: slice = slice(None)) -> torch.Tensor:
        """The kernel's answer for some of the rows, which leaves their keys and values in the slots."""
        q, k, v = (x[:, pick] for x in (self.q, self.k, self.v))
        layer = Layer(self.keys, self.values, torch.tensor([self.keys.shape[2]]), 0.2, window, softcap)
        return self.kernels.attend(q, k, v, layer, self.rows(pick))

    def rows(self, pick: slice) -> Rows:
        """Two decodes, and two runs with a row between them that is nobody's: what of them is picked."""
        every = range(len(self.slots))[pick]
        runs = [Run(max(2 - every.start, 0), len([r for r in every if 2 <= r < 42]), 0, 30 + max(every.start - 2, 0))]
        runs += [Run(43 - every.start, 1, 4, 0)] if 43 in every else []
        own = self.slots[pick].contiguous(), self.positions[pick].contiguous()
        return Rows(*own, len([r for r in every if r < 2]), tuple(run for run in runs if run.count))

    def wanted(self, window: int, softcap: float | None) -> torch.Tensor:
        """float64, row by row."""
        found = torch.zeros(len(self.slots), self.heads, self.size, dtype=torch.float64)
        for row, (slot, at) in enumerate(zip(self.slots.tolist(), self.positions.tolist(), strict=True)):
            if slot < 0:
                continue
            seen = slice(max(0, at - window + 1), at + 1)
            keys, values = (side[slot, :, seen].double() for side in (self.keys, self.values))
            keys, values = (side.repeat_interleave(self.heads // self.kv_heads, 0) for side in (keys, values))
            scores = 0.2 * torch.einsum("hd,htd->ht", self.q[:, row].double(), keys)
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            found[row] = torch.einsum("ht,htd->hd", torch.softmax(scores, -1), values)
        return found


SHAPES = [
    (1, 1, 16),
    (4, 2, 32),
    (9, 3, 64),
    (8, 2, 64),
    (7, 1, 64),
    (12, 1, 128),
    (4, 4, 128),
    (5, 1, 80),
    (2, 1, 256),
]


@pytest.mark.parametrize(("window", "softcap"), [(24, None), (96, None), (24, 3.0), (96, 1e6)])
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_attention_is_softmax_of_what_a_row_may_see(
    kernel: Kernels, sizes: tuple[int, int, int], window: int, softcap: float | None
) -> None:
    """Decodes and chunks of prefills in one call; a cap of a million bends nothing and takes the portable code."""
    cache = Cache(sizes, kernel)
    found = cache.run(window, softcap)
    close(found, cache.wanted(window, softcap))
    for row, (slot, at) in enumerate(zip(cache.slots.tolist(), cache.positions.tolist(), strict=True)):
        if slot >= 0:
            assert torch.equal(cache.keys[slot, :, at], cache.k[:, row])
            assert torch.equal(cache.values[slot, :, at], cache.v[:, row])
    assert not found[42].any(), "nobody's row gets zeros"


@pytest.mark.parametrize("softcap", [None, 1e6])
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_no_row_minds_another_sequence(native: Kernels, sizes: tuple[int, int, int], softcap: float | None) -> None:
    """To the last bit: all at once, each by itself, and a run in whole blocks. What numpy makes of a tile in Triton's
    interpreter is no GPU's arithmetic."""
    together = Cache(sizes, native).run(96, softcap)
    for cuts in ([0, 1, 2, 42, 43, 44], [0, 2, 18, 34, 44]):
        cache = Cache(sizes, native)
        parts = [cache.run(96, softcap, slice(first, last)) for first, last in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat(parts), together)


@pytest.mark.parametrize("softcap", [None, 1e6])
def test_a_nan_stays_in_its_row(kernel: Kernels, softcap: float | None) -> None:
    """In a query, a key or a value: its own sequence has it, no other's row does."""
    clean = Cache((9, 3, 64), kernel).run(96, softcap)
    fields: list[Callable[[Cache], torch.Tensor]] = [lambda c: c.q, lambda c: c.k, lambda c: c.v]
    for field, bad in itertools.product(fields, (torch.nan, torch.inf)):
        cache = Cache((9, 3, 64), kernel)
        field(cache)[:, 0] = bad
        found = cache.run(96, softcap)
        assert not torch.isfinite(found[0].float()).all()
        assert torch.equal(found[1:], clean[1:])


def beside(
    kernel: Kernels, q: torch.Tensor, rows: torch.Tensor, bank: tuple[torch.Tensor, ...], which: torch.Tensor
) -> torch.Tensor:
    """Side attention by either sort of kernels; keys and values [A, H_kv, p, D], gates [A, H, 1], lengths [A]."""
    keys, values, gates, lengths = bank
    if isinstance(kernel, BankedKernels):
        return kernel.attend_side(q, rows, keys, values, gates, which, lengths)
    assert isinstance(kernel, PointedKernels)
    cut = [
        [side[one, :, :length].contiguous() for side in (keys, values)] for one, length in enumerate(lengths.tolist())
    ]
    told = [(*(x.data_ptr() for x in (*cut[one], gates[one])), 0, cut[one][0].shape[1]) for one in which.tolist()]
    return kernel.attend_beside(q, rows, torch.tensor(told, dtype=torch.int64).T.contiguous(), 0, keys.shape[1])


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_side_attention_reads_each_rows_own_bank(kernel: Kernels, sizes: tuple[int, int, int]) -> None:
    """Some rows of a batch, banks of several lengths, a gate for every head; the same bits alone."""
    heads, kv_heads, size = sizes
    q = draw(1, 9, heads, size, dtype=kernel.dtype)[0].transpose(0, 1)
    keys, values = (draw(3, kv_heads, 40, size, dtype=kernel.dtype, seed=seed) for seed in (1, 2))
    gates, lengths = draw(3, heads, 1, dtype=kernel.dtype, seed=3), torch.tensor([40, 1, 17])
    rows, which = torch.tensor([8, 0, 3, 4]), torch.tensor([2, 0, 1, 0])
    bank = keys, values, gates, lengths

    def attended(rows: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return beside(kernel, q, rows, bank, which)

    found = attended(rows, which)
    wanted = torch.empty(4, heads, size, dtype=torch.float64)
    for index, (row, one) in enumerate(zip(rows.tolist(), which.tolist(), strict=True)):
        own = slice(0, int(lengths[one]))
        k, v = (x[one, :, own].double().repeat_interleave(heads // kv_heads, 0) for x in (keys, values))
        weights = torch.softmax(torch.einsum("hd,htd->ht", q[:, row].double(), k) * size**-0.5, -1)
        wanted[index] = torch.einsum("ht,htd->hd", weights, v) * gates[one].double()
    close(found, wanted)
    for index in range(4):
        alone = attended(rows[index : index + 1].clone(), which[index : index + 1].clone())
        assert torch.equal(alone[0], found[index])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_query_without_an_adapter_in_a_layer_gets_zeros(dtype: torch.dtype) -> None:
    """Because it has none, or none that low; a layer further up is read further on."""
    kernel = GpuKernels(dtype, PROCESSORS)
    q = draw(4, 3, 32, dtype=dtype)
    keys, values = (draw(2, 2, 5, 32, dtype=dtype, seed=seed) for seed in (1, 2))
    gates = torch.ones(2, 4, dtype=dtype)
    told = [(0,) * 5, (keys.data_ptr(), values.data_ptr(), gates.data_ptr(), 6, 5)]
    table = torch.tensor(told, dtype=torch.int64).T.contiguous()
    assert not kernel.attend_beside(q, torch.tensor([0, 1]), table, 5, 2).any()
    found = kernel.attend_beside(q, torch.tensor([0, 1]), table, 7, 2)
    assert not found[0].any()
    weights = torch.softmax(
        torch.einsum("kgd,ktd->kgt", q[:, 1].double().view(2, 2, 32), keys[1].double()) / 32**0.5, -1
    )
    close(found[1], torch.einsum("kgt,ktd->kgd", weights, values[1].double()).view(4, 32))


def test_rows_that_do_not_fit_are_refused_and_strided_heads_are_not(kernel: Kernels) -> None:
    """An untried family may compute its attention in another dtype, or give values another size than keys."""
    cache, plain = Cache((4, 2, 32), kernel), Cache((4, 2, 32), kernel)
    wanted = plain.run(96, None)
    cache.q = cache.q.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(cache.run(96, None), wanted)
    for name, other in [
        ("v", cache.v[..., :16]),
        ("k", cache.k[:1]),
        ("q", cache.q[..., :16]),
        ("q", cache.q.double()),
    ]:
        wrong = Cache((4, 2, 32), kernel)
        setattr(wrong, name, other)
        with pytest.raises(ValueError, match="queries"):
            wrong.run(96, None)
