"""The K/V cache follows the longest sequence and never carries one holder's numbers to the next."""

import pytest
import torch

from server.engine.kv import KVCache, KVShape
from server.engine.slots import GRAIN, Move

SHAPE = KVShape(layers=2, slots=4, kv_heads=3, positions=300, head_dim=8, area=4 * 320)


@pytest.fixture
def kv() -> KVCache:
    return KVCache(SHAPE, torch.empty(0))


def fill(kv: KVCache, slot: int, length: int) -> torch.Tensor:
    layers, two, _, kv_heads, _, head_dim = kv.tensor.shape
    prefix = torch.randn(layers, two, kv_heads, length, head_dim)
    kv.copy_in(slot, prefix, length)
    return prefix


def test_slots_keep_what_they_hold_when_the_span_grows_and_shrinks(kv: KVCache) -> None:
    """Through every layout, up to the whole cache and back."""
    held = [fill(kv, slot, GRAIN - slot) for slot in range(SHAPE.slots)]
    for positions in (40, 100, 300, 150, 20):
        kv.fit(positions, SHAPE.slots)
        assert kv.span >= positions
        for slot, prefix in enumerate(held):
            assert torch.equal(kv.copy_out(slot, GRAIN - slot), prefix)


def test_what_a_decode_reads_is_contiguous(kv: KVCache) -> None:
    """The batched matmul would copy anything else."""
    kv.fit(100, 0)
    keys, values = kv.layers[1]
    assert keys[:2].is_contiguous()
    assert values[:2].is_contiguous()


def test_the_span_leaves_room_to_grow_and_shrinks_only_when_half_would_do(kv: KVCache) -> None:
    """So that a layout lasts for many steps."""
    spans = []
    for positions in (64, 65, 90, 128, 60, 40, 32):
        kv.fit(positions, SHAPE.slots)
        spans.append(kv.span)
    assert spans == [96, 96, 96, 160, 96, 96, 64]
    kv.fit(300, SHAPE.slots)
    assert kv.span == kv.positions == 320


def test_a_cleared_slot_holds_nothing_of_older_layouts(kv: KVCache) -> None:
    """A slot that nobody held while the layout changed lies where others' numbers were."""
    kv.fit(GRAIN, 4)
    kv.tensor[:, :, 2:] = float("nan")
    kv.fit(60, 1)
    assert torch.isnan(kv.tensor[:, :, 1]).any()
    kv.clear(1)
    assert torch.isfinite(kv.tensor[:, :, :2]).all()


def test_a_nan_does_not_outlive_its_holder(kv: KVCache) -> None:
    """Not in its slot, not where an older layout had put it, not behind a sequence that moves into its place."""
    kv.fit(GRAIN, 3)
    kv.tensor[:, :, 1] = float("nan")
    kept = fill(kv, 2, 10)
    kv.fit(200, 3)
    kv.fit(GRAIN, 3)
    kv.fit(200, 3)
    kv.move(Move(source=2, target=1, length=10))
    for slot in (2, 3):
        kv.clear(slot)
    assert torch.isfinite(kv.tensor).all()
    assert torch.equal(kv.copy_out(1, 10), kept)


def test_an_area_holds_a_few_long_slots_or_many_short_ones() -> None:
    """However it is divided, never more positions than the area, and never less than was asked."""
    kv = KVCache(KVShape(layers=1, slots=8, kv_heads=1, positions=256, head_dim=4, area=512), torch.empty(0))
    held = {0: fill(kv, 0, 20), 1: fill(kv, 1, 30)}
    for positions, high in ((30, 8), (64, 8), (100, 4), (256, 2), (64, 8), (32, 2)):
        kv.fit(positions, high)
        slots = kv.tensor.shape[2]
        assert slots * kv.span <= 512
        assert slots >= high
        assert kv.span >= positions
        for slot, prefix in held.items():
            assert torch.equal(kv.copy_out(slot, prefix.shape[3]), prefix)
    with pytest.raises(ValueError, match="area of 512"):
        kv.fit(100, 5)
