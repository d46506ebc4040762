"""RMS norms as one operator instead of six: at decode sizes a norm costs its calls, not its arithmetic.

A layer is replaced only after it gave the same numbers as torch's own operator: families that scale by 1 + weight, or
norm otherwise, keep theirs. Knows layers; no family by name.
"""

import torch
import torch.nn.functional as F
from torch import nn

from server.engine.kernels import Kernels

TOLERANCE = 1e-5
"""Largest difference, in float32, to a layer's own answer to numbers of size 1."""


class FusedRMSNorm(nn.Module):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and Sennrich, arXiv 1910.07467).

    With `kernels` in theirs, else in torch's operator.
    """

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self._shape = tuple(weight.shape)
        self.eps = eps
        self.kernels: Kernels | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kernels is not None and x.dtype == self.kernels.dtype and x.is_contiguous():
            return self.kernels.norm(x, self.weight, self.eps)
        return F.rms_norm(x, self._shape, self.weight, self.eps)


def fused_norms(parent: nn.Module) -> dict[str, nn.Module]:
    """Every RMS norm among the children of `parent` that is one."""
    found = ((name, _fused(child)) for name, child in parent.named_children())
    return {name: norm for name, norm in found if norm is not None}


@torch.inference_mode()
def _fused(layer: nn.Module) -> FusedRMSNorm | None:
    weight, eps = getattr(layer, "weight", None), getattr(layer, "variance_epsilon", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 1 or not isinstance(eps, float):
        return None
    x = torch.randn(4, len(weight), generator=torch.Generator().manual_seed(0)).to(weight.device)
    own = FusedRMSNorm(weight.detach().float(), eps)(x)  # float32, whatever the weight's dtype
    try:
        same = torch.allclose(layer(x).float(), own, atol=TOLERANCE, rtol=TOLERANCE)
    except (TypeError, RuntimeError, AttributeError):  # a layer that wants more than x is none of these
        return None
    return FusedRMSNorm(weight.detach(), eps) if same else None
