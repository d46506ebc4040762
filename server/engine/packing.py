"""Linear layers with weights laid out once for the CPU's matrix kernels: 1.3-2.6 times faster at decode sizes.

Layers that read one input (queries, keys and values; a gated MLP's two) are one matrix, multiplied once. The two
operators are oneDNN's, private to torch: where they are missing or answer otherwise than a plain linear, the model
keeps its own layers. A gradient goes through them to their input; their weights never take one.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_reorder: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)

ROWS_HINT = 64
"""Rows of the input the layout is chosen for: a full decode batch."""
SHAPES = 256
"""Products of other numbers of rows or other layers whose kernels oneDNN keeps: some 0.6 MB each, and 2 ms to make."""
CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's own store of them and the one that torch keeps before it, of 1,024 each unless told otherwise."""
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Children of one parent that families call in this order with one input."""


class Packed(nn.Module):
    """One matrix, however its weights are laid out: y = x W^T + b."""

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """x W^T + b + residual, in one operator; it may be written where the residual was."""
        raise NotImplementedError


Make = Callable[[Sequence[nn.Linear]], Packed]
"""Lays out the weights of layers that read one input."""


class PackedLinear(Packed):
    """y = x W^T + b with W in oneDNN's blocked layout; several layers' outputs stand side by side in y."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self._packed = _reorder(torch.cat([linear.weight.detach() for linear in linears]), ROWS_HINT)
        told: list[torch.Tensor | None] = [linear.bias for linear in linears]
        biases = [bias.detach() for bias in told if bias is not None]
        self._bias = torch.cat(biases) if biases else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            learnt: torch.Tensor = _Through.apply(x, self)  # type: ignore[no-untyped-call]  # torch has no types there
            return learnt
        return self.product(x)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """x W^T + b, without a gradient: oneDNN's operator would take one and give a wrong one."""
        packed: torch.Tensor = _linear(x, self._packed, self._bias, "none", [], "")
        return packed

    def plain(self) -> torch.Tensor:
        """W, laid out as any matrix: a copy that is the caller's."""
        dense: torch.Tensor = self._packed.to_dense()
        return dense

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = _linear.binary(x, residual, self._packed, self._bias, "add")
        return packed


class MergedLinear(Packed):
    """y = x W^T + b with torch's own operator: one product for layers that read one input, where none is packed."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        weights = [linear.weight.detach() for linear in linears]
        self._weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        told: list[torch.Tensor | None] = [linear.bias for linear in linears]
        biases = [bias.detach() for bias in told if bias is not None]
        self._bias = torch.cat(biases) if biases else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias)

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        if self._bias is not None:
            residual += self._bias
        residual.view(-1, residual.shape[-1]).addmm_(x.flatten(0, -2), self._weight.t())  # else it is copied first
        return residual


class _Through(torch.autograd.Function):
    """The product whose input takes a gradient, dy W: the matrix lies there plainly for as long as that takes."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, layer: PackedLinear) -> torch.Tensor:
        context.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] @ context.layer.plain(), None


class Together:
    """Several layers as one multiplication: whoever is called first computes, the others find their part there.

    Another input than the first layer's is computed anew, so an unexpected caller gets slow answers, not wrong ones.
    """

    def __init__(self, linears: Sequence[nn.Linear], make: Make) -> None:
        self.whole = make(linears)
        self.widths = [linear.out_features for linear in linears]
        self._input: torch.Tensor | None = None
        self._parts: tuple[torch.Tensor, ...] = ()

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        if x is not self._input:
            self._input, self._parts = x, self.whole(x).split(self.widths, -1)
        found = self._parts[index]
        if index == len(self.widths) - 1:
            self._input, self._parts = None, ()
        return found


class Part(nn.Module):
    """One of the layers in a `Together`, in the place where the family's code calls it."""

    def __init__(self, together: Together, index: int) -> None:
        super().__init__()
        self.together, self._index = together, index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.together.part(self._index, x)


def keep_few_shapes() -> None:
    """Bounds what batches of ever other sizes leave behind in oneDNN. Read at its first use: call it before that."""
    for name in CAPACITIES:
        os.environ.setdefault(name, str(SHAPES))


def packing_works(dtype: torch.dtype) -> bool:
    """One small layer in all ways: False where the operators are missing or disagree."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(64, 96).to(dtype)
    x = torch.randn(3, 64, generator=generator).to(dtype)
    try:
        layer = PackedLinear([linear])
        packed = layer(x)
        twice = layer.plus(x, packed)
    except (TypeError, RuntimeError):
        return False
    plain = F.linear(x, linear.weight, linear.bias)
    return torch.allclose(packed, plain, atol=1e-2) and torch.allclose(twice, plain + plain, atol=2e-2)


def packed_linears(parent: nn.Module, make: Make = PackedLinear) -> dict[str, nn.Module]:
    """Every `nn.Linear` child of `parent`, packed by `make`. A tied output layer leaves the embedding its weight."""
    left = {name: child for name, child in parent.named_children() if type(child) is nn.Linear}
    found: dict[str, nn.Module] = {}
    for names in TOGETHER:
        linears = [left[name] for name in names if name in left]
        if len(linears) == len(names) and len({(one.in_features, one.bias is None) for one in linears}) == 1:
            together = Together(linears, make)
            found |= {name: Part(together, index) for index, name in enumerate(names)}
    return found | {name: make([linear]) for name, linear in left.items() if name not in found}
