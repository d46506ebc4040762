"""Layers are exchanged one after the other: at no time are all the old ones there beside the new."""

import gc
import weakref

from torch import nn

from server.engine.layers import exchange


def test_an_exchanged_layer_is_gone_before_the_next_is_asked_about() -> None:
    """A base that fills half of a device's memory can be loaded there."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4)) for _ in range(3)))
    old: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []

    def better(parent: nn.Module) -> dict[str, nn.Module]:
        gc.collect()
        alive.append(sum(one() is not None for one in old))
        linears = {name: child for name, child in parent.named_children() if isinstance(child, nn.Linear)}
        old.extend(weakref.ref(one) for one in linears.values())
        return {name: nn.Identity() for name in linears}

    assert exchange(model, better) == 3
    assert alive == [0, 0, 0, 0]
