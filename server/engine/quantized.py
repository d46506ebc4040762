"""Linear layers with weights of 8 bits: half the bytes to read, and products that a CPU makes twice as many of.

A scale for every output, found from the weights, and one for every row of the input, found as it comes (both symmetric,
without outliers kept apart as in LLM.int8(), Dettmers et al., arXiv 2208.07339). Answers differ a little from the
base's own: what they lose is measured (docs/log.md), so it is an option. Knows layers and kernels; no model.
"""

from collections.abc import Sequence

import torch
from torch import nn

from server.engine.native.binding import PANEL, NativeKernels
from server.engine.packing import Packed, PackedLinear

STEPS = 127
"""Largest weight of 8 bits; the kernel wants weights unsigned, that is one more than this added."""


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """weight [N, d] -> int8 [N, d] and scales float32 [N], with weight close to int8 * scale."""
    whole = weight.float()
    scales = whole.abs().amax(1) / STEPS
    steps = torch.where(scales > 0, scales, torch.ones_like(scales))
    return (whole / steps[:, None]).round().to(torch.int8), scales


def panels(whole: torch.Tensor) -> torch.Tensor:
    """int8 [N, d] -> uint8 as the kernel reads it: panels of `PANEL` outputs, four inputs of each side by side."""
    outputs, inputs = whole.shape
    padded = torch.zeros(-(-outputs // PANEL) * PANEL, inputs, dtype=torch.int16)
    padded[:outputs] = whole
    laid = (padded + (STEPS + 1)).to(torch.uint8).view(-1, PANEL, inputs // 4, 4)
    return laid.transpose(1, 2).contiguous()


class Int8Linear(Packed):
    """y = x W^T + b with W in 8 bits; several layers' outputs stand side by side in y."""

    def __init__(self, linears: Sequence[nn.Linear], kernels: NativeKernels) -> None:
        super().__init__()
        whole, self._scales = quantize(torch.cat([linear.weight.detach() for linear in linears]))
        self._weights = panels(whole)
        told: list[torch.Tensor | None] = [linear.bias for linear in linears]
        biases = [bias.detach().float() for bias in told if bias is not None]
        self._bias = torch.cat(biases) if biases else None
        self._kernels = kernels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x, None)

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self._product(x, residual)

    def _product(self, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """In the kernels' dtype, and back to the input's: some families compute their logits in another."""
        dtype = self._kernels.dtype
        given = x.to(dtype).contiguous()
        added = None if residual is None else residual.to(dtype).contiguous()
        return self._kernels.linear_int8(given, self._weights, self._scales, self._bias, added).to(x.dtype)


def of_8_bits(linears: Sequence[nn.Linear], kernels: NativeKernels) -> Packed:
    """In 8 bits where the kernel takes them, which wants whole fours of inputs; else as they are."""
    if linears[0].in_features % 4:
        return PackedLinear(linears)
    return Int8Linear(linears, kernels)
