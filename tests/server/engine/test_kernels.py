"""Every kernel says what torch says of the same rows in float64, and no row minds its neighbours."""

import pytest
import torch
import torch.nn.functional as F

from server.engine.kernels import Kernels
from server.engine.native.binding import kernels
from tests.server.engine.kinds import CPU, KINDS, close, draw, kernels_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value|divide by zero|All-NaN slice) encountered:RuntimeWarning"
)
"""Triton's interpreter computes in numpy, which remarks on what a GPU says nothing of."""


@pytest.mark.parametrize(("rows", "size"), [(1, 48), (3, 64), (7, 100), (64, 576)])
def test_norm_is_torchs(kernel: Kernels, rows: int, size: int) -> None:
    """Of few rows on one thread, of many on all."""
    x, weight = 3 * draw(1, rows, size, dtype=kernel.dtype), draw(size, dtype=kernel.dtype, seed=1)
    close(kernel.norm(x, weight, 1e-5), F.rms_norm(x.double(), (size,), weight.double(), 1e-5))


@pytest.mark.parametrize(("rows", "size"), [(1, 96), (5, 100), (64, 1536)])
def test_gate_is_silu_of_one_half_times_the_other(kernel: Kernels, rows: int, size: int) -> None:
    """Large numbers included, on whose exponential a float32 has no digit left."""
    x = draw(1, rows, 2 * size, dtype=kernel.dtype)
    x[0, 0, :4] = torch.tensor([-200.0, 200.0, -88.5, 88.5])
    gate, up = x.double().split(size, -1)
    close(kernel.gate(x), F.silu(gate) * up)


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("rows", "heads", "kv_heads", "size"), [(1, 4, 2, 16), (6, 9, 3, 64), (70, 6, 6, 80)])
def test_rotate_turns_queries_and_keys_and_leaves_values(  # noqa: PLR0913, PLR0917 - a table
    kernel: Kernels,
    rows: int,
    heads: int,
    kv_heads: int,
    size: int,
    normed: bool,
) -> None:
    """The halves of a head as pairs, as Llama does; normed first where a family norms its heads."""
    x = draw(1, rows, (heads + 2 * kv_heads) * size, dtype=kernel.dtype)
    cos, sin = draw(2, 1, rows, size, dtype=kernel.dtype, seed=1)
    weights = draw(2, size, dtype=kernel.dtype, seed=2)
    wanted = x.double().view(rows, -1, size)
    if normed:
        q, k = (F.rms_norm(wanted, (size,), weight.double(), 1e-5) for weight in weights)
        wanted = torch.cat([q[:, :heads], k[:, heads : heads + kv_heads], wanted[:, heads + kv_heads :]], 1)
    turned = torch.cat([-wanted[..., size // 2 :], wanted[..., : size // 2]], -1)
    rotated = wanted * cos[0, :, None].double() + turned * sin[0, :, None].double()
    rotated[:, heads + kv_heads :] = wanted[:, heads + kv_heads :]
    kernel.rotate(x, cos, sin, heads, kv_heads, (weights[0], weights[1]) if normed else None, 1e-5)
    close(x, rotated.view(1, rows, -1))


@pytest.mark.parametrize(("rows", "size"), [(1, 384), (3, 513), (40, 49_152)])
def test_best_is_the_first_of_the_largest(kernel: Kernels, rows: int, size: int) -> None:
    """Where several are as large, as in bfloat16 they are."""
    logits = draw(rows, size, dtype=kernel.dtype)
    logits[0] = -3.0
    logits[0, 300:310] = -2.0
    values, ids = kernel.best(logits)
    assert values.tolist() == logits.float().max(-1).values.tolist()
    first = [int((row == row.max()).nonzero()[0]) for row in logits.float()]
    assert ids.tolist() == first
    assert first[0] == 300


def test_best_tells_a_row_that_holds_nan_or_is_infinite(kernel: Kernels) -> None:
    """And it alone; an id that a model forbids with minus infinity is no fault."""
    logits = draw(5, 700, dtype=kernel.dtype)
    logits[1, 650], logits[2, 3], logits[3, 9], logits[4] = torch.nan, torch.inf, -torch.inf, -torch.inf
    values, _ = kernel.best(logits)
    assert torch.isfinite(values).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize(("rows", "size"), [(1, 384), (3, 513), (40, 49_152)])
def test_log_sums_are_torchs(kernel: Kernels, rows: int, size: int) -> None:
    """Of flat and of peaked rows, however large; an id that a model forbids with minus infinity adds nothing."""
    logits = 5 * draw(rows, size, dtype=kernel.dtype)
    logits[0] = max(-3e30, torch.finfo(kernel.dtype).min)
    logits[-1, 7], logits[-1, 9] = 300.0, -torch.inf
    best = kernel.best(logits)[0]
    close(kernel.log_sums(logits, best), (logits.double() - best[:, None]).logsumexp(-1))


def test_a_rows_log_sum_does_not_depend_on_its_neighbours(kernel: Kernels) -> None:
    """Bit for bit, alone and among others."""
    logits = 5 * draw(7, 9_001, dtype=kernel.dtype)
    best = kernel.best(logits)[0]
    alone = [kernel.log_sums(logits[row : row + 1], best[row : row + 1]) for row in range(7)]
    assert torch.equal(kernel.log_sums(logits, best), torch.cat(alone))


def test_a_device_a_dtype_or_a_level_without_kernels_has_none() -> None:
    """float16 on a CPU, anything on CUDA, instructions that nothing was compiled for."""
    assert kernels(torch.float16, CPU) == "none for float16 on cpu"
    assert kernels(torch.bfloat16, torch.device("cuda")) == "none for bfloat16 on cuda"
    for level in (2, 9):
        assert str(kernels(torch.float32, CPU, level)).startswith(f"none of level {level}: this CPU runs ")
    assert not kernels_of("native-float32").fits(24)
    assert not any(kernels_of(kind).fits(512) for kind in KINDS)
