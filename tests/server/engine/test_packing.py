"""Packed layers give the numbers of the layers they stand for, whoever calls them and in whatever order."""

import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from server.engine.layers import exchange
from server.engine.packing import MergedLinear, PackedLinear, Part, packed_linears, packing_works

pytestmark = pytest.mark.skipif(not packing_works(torch.float32), reason="torch has no packed linear layers here")


class Attention(nn.Module):
    """The children's names and sizes of a family's attention."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(48, 64, bias=bias)
        self.k_proj = nn.Linear(48, 32, bias=bias)
        self.v_proj = nn.Linear(48, 32, bias=bias)
        self.o_proj = nn.Linear(64, 48, bias=False)


NAMES = ("q_proj", "k_proj", "v_proj")


def both(bias: bool) -> tuple[Attention, Attention]:
    torch.manual_seed(0)
    plain, packed = Attention(bias=bias), Attention(bias=bias)
    packed.load_state_dict(plain.state_dict())
    assert exchange(packed, packed_linears) == 4
    return plain, packed


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_layers_of_one_input_are_multiplied_once_and_say_the_same(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries, keys and values come from one multiplication each time they are called in turn."""
    plain, packed = both(bias)
    calls = []
    part = packed.q_proj
    assert isinstance(part, Part)
    whole = part.together.whole

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        answer: torch.Tensor = whole(x)
        return answer

    monkeypatch.setattr(part.together, "whole", counted)
    for _ in range(2):
        x = torch.randn(1, 5, 48)
        for name in NAMES:
            torch.testing.assert_close(getattr(packed, name)(x), getattr(plain, name)(x))
    assert len(calls) == 2
    y = torch.randn(1, 5, 64)
    torch.testing.assert_close(packed.o_proj(y), plain.o_proj(y))
    assert isinstance(packed.o_proj, PackedLinear)
    torch.testing.assert_close(packed.o_proj.plus(y, x), plain.o_proj(y) + x)


@torch.inference_mode()
def test_an_input_of_its_own_or_another_order_is_answered_all_the_same() -> None:
    """A family that feeds its layers otherwise is slow, not wrong."""
    plain, packed = both(bias=False)
    x, y = torch.randn(1, 5, 48), torch.randn(1, 3, 48)
    for name, given in [("v_proj", x), ("q_proj", y), ("k_proj", x), ("q_proj", y), ("v_proj", y), ("k_proj", y)]:
        torch.testing.assert_close(getattr(packed, name)(given), getattr(plain, name)(given))


def test_layers_that_do_not_match_are_packed_one_by_one() -> None:
    """A bias on some of them, or another width."""
    layers = Attention(bias=False)
    layers.k_proj = nn.Linear(48, 32, bias=True)
    assert exchange(layers, packed_linears) == 4
    assert not any(isinstance(child, Part) for child in layers.children())


GROWTH = """
import os, torch
from pathlib import Path
from torch import nn
from server.engine.packing import PackedLinear, SHAPES, keep_few_shapes

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

keep_few_shapes()
layer = PackedLinear([nn.Linear(64, 96)])
with torch.inference_mode():
    for rows in range(1, 3 * SHAPES):
        layer(torch.randn(rows, 64))
        if rows == 1.5 * SHAPES:
            before = resident()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_batches_of_ever_other_sizes_leave_no_more_kernels_behind() -> None:
    """oneDNN makes one for each number of rows, of half a megabyte, and keeps so many."""
    run = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 100e6  # 0.2 GB without


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_merged_layers_say_the_same(bias: bool) -> None:
    """Where nothing is packed; what is added to is written over, and a layer that stands alone keeps its weight."""
    torch.manual_seed(0)
    plain, merged = Attention(bias=bias), Attention(bias=bias)
    merged.load_state_dict(plain.state_dict())
    weight = merged.o_proj.weight
    exchange(merged, partial(packed_linears, make=MergedLinear))
    x = torch.randn(1, 5, 48)
    for name in NAMES:
        assert torch.allclose(getattr(merged, name)(x), getattr(plain, name)(x), atol=1e-6)
    alone: Any = merged.o_proj
    whole: Any = merged.q_proj.together.whole  # type: ignore[union-attr]
    residual = torch.randn(1, 5, 128)
    wanted = residual + torch.cat([getattr(plain, name)(x) for name in NAMES], -1)
    assert whole.plus(x, residual) is residual
    assert torch.allclose(residual, wanted, atol=1e-5)
    assert alone._weight.data_ptr() == weight.data_ptr()
    mixed, residual = torch.randn(1, 5, 64), torch.randn(1, 5, 48)
    wanted = residual + plain.o_proj(mixed)
    assert torch.allclose(alone.plus(mixed, residual), wanted, atol=1e-5)
