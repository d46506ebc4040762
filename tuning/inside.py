"""Yardsticks that change the base's inside and are not served: LoRA and Houlsby's adapters.

LoRA (Hu et al., arXiv 2106.09685): a layer's output gains (alpha / r) B A x of queries and values; B begins at zero.
Adapters (Houlsby et al., arXiv 1902.00751): W_up relu(W_down y + b) + c on top of what attention and feed-forward give,
in every layer; they begin next to the identity. Knows the names of modules; no data.
"""

import torch
from torch import nn

from tuning.base import FrozenBase
from tuning.soft import Bottleneck, LowRank, Soft

ALPHA = 2.0
"""alpha / r, whatever the rank."""
NEAR = 1e-2
"""Standard deviation of an adapter's first weights, as in the paper."""


class Lora:
    """Rank r terms of every query and value projection."""

    def __init__(self, base: FrozenBase, rank: int, seed: int) -> None:
        drawn = torch.Generator().manual_seed(seed)
        self._nothing = torch.zeros(0, base.base.hidden, device=base.device)
        self._pairs = {
            name: (
                nn.Parameter((torch.randn(rank, inputs, generator=drawn) / inputs**0.5).to(base.device)),
                nn.Parameter(torch.zeros(outputs, rank, device=base.device)),
            )
            for name, (inputs, outputs) in base.changes.projections().items()
        }

    def parameters(self) -> dict[str, nn.Parameter]:
        return {f"{name}.{part}": p for name, pair in self._pairs.items() for part, p in zip("AB", pair, strict=True)}

    def soft(self) -> Soft:
        return Soft(self._nothing, changes={name: LowRank(a, b * ALPHA) for name, (a, b) in self._pairs.items()})


class BottleneckAdapter:
    """Two in every layer, of `units` each."""

    def __init__(self, base: FrozenBase, units: int, seed: int) -> None:
        drawn, hidden = torch.Generator().manual_seed(seed), base.base.hidden
        self._nothing = torch.zeros(0, hidden, device=base.device)

        def near(*size: int) -> nn.Parameter:
            return nn.Parameter((NEAR * torch.randn(size, generator=drawn)).to(base.device))

        def none(size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(size, device=base.device))

        self._parts = {
            name: Bottleneck(near(units, hidden), none(units), near(hidden, units), none(hidden))
            for name in base.changes.behind()
        }

    def parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"{name}.{part}": getattr(held, part)
            for name, held in self._parts.items()
            for part in held.__dataclass_fields__
        }

    def soft(self) -> Soft:
        return Soft(self._nothing, changes=self._parts)
