"""A run of rows of one slot is attended to in blocks: as torch does it in float64, at any length and any window."""

import pytest
import torch
import torch.nn.functional as F

from server.engine.kernels import Kernels, Layer, Rows, Run
from tests.server.engine.kinds import close, draw

SIZES = [(9, 3, 64), (4, 4, 128), (7, 1, 96), (5, 1, 80), (2, 1, 256), (6, 2, 32)]
SPAN = 320
RUNS = [(0, 1), (0, 3), (0, 4), (0, 130), (250, 37), (127, 2), (120, 20), (300, 17), (5, 300)]
"""Positions before a run, and its rows: within and across blocks of rows, and of keys."""


def run_of(
    kernel: Kernels, sizes: tuple[int, int, int], place: tuple[int, int], window: int, softcap: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The kernels' answer for a run in the second of two slots, all else in which is NaN; and what float64 says."""
    (heads, kv_heads, size), (past, count) = sizes, place
    keys, values = (draw(2, kv_heads, SPAN, size, dtype=kernel.dtype, seed=seed) for seed in (1, 2))
    for side in (keys, values):
        side[0], side[1, :, past:] = torch.nan, torch.nan
    q = draw(heads, count, size, dtype=kernel.dtype, seed=3)
    k, v = (draw(kv_heads, count, size, dtype=kernel.dtype, seed=seed) for seed in (4, 5))
    layer = Layer(keys, values, torch.tensor([SPAN]), size**-0.5, window, softcap)
    at = torch.arange(past, past + count)
    found = kernel.attend(q, k, v, layer, Rows(torch.ones_like(at), at, 0, (Run(0, count, 1, past),)))
    position = torch.arange(past + count)
    seen = (position <= at[:, None]) & (position > at[:, None] - window)
    group = heads // kv_heads
    scores = size**-0.5 * q.double() @ keys[1, :, : past + count].double().repeat_interleave(group, 0).transpose(1, 2)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = F.softmax(scores.masked_fill(~seen, -torch.inf), -1)
    wanted = weights @ values[1, :, : past + count].double().repeat_interleave(group, 0)
    return found, wanted.transpose(0, 1)


@pytest.mark.parametrize("window", [SPAN, 150, 24, 1])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_run_is_softmax_of_what_each_row_may_see(native: Kernels, sizes: tuple[int, int, int], window: int) -> None:
    """And nothing that lies behind it or in another slot is read."""
    for place in RUNS:
        close(*run_of(native, sizes, place, window, None))


def test_scores_are_capped_in_every_block(native: Kernels) -> None:
    """By code that every machine has, whatever its instructions."""
    for place in RUNS:
        close(*run_of(native, (9, 3, 64), place, 150, 3.0))


@pytest.mark.parametrize("factor", [1e4, 1e-30])
def test_scores_of_any_size_are_weighed(native: Kernels, factor: float) -> None:
    """So large that one key has all the weight, so small that all have the same: nothing overflows."""
    kernel = native
    keys, values = draw(1, 1, 64, 64, dtype=kernel.dtype, seed=1), draw(1, 1, 64, 64, dtype=kernel.dtype, seed=2)
    q, k, v = (draw(1, 40, 64, dtype=kernel.dtype, seed=seed) for seed in (3, 4, 5))
    layer, at = Layer(keys, values, torch.tensor([64]), factor, 64, None), torch.arange(20, 60)
    found = kernel.attend(q, k, v, layer, Rows(torch.zeros_like(at), at, 0, (Run(0, 40, 0, 20),)))
    scores = (factor * q[0].double() @ keys[0, 0, :60].double().T).masked_fill(
        torch.arange(60) > at[:, None], -torch.inf
    )
    close(found[:, 0], torch.softmax(scores, -1) @ values[0, 0, :60].double())
