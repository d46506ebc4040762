"""What every method of learning is: parameters for an optimiser, and what the base sees of them now.

`training` turns the crank; a method knows no data and no objective. Methods measure what they learn in units of where
it began (its root mean square), so that one learning rate suits bases of any scale.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from tuning.soft import Soft


class Method(Protocol):
    """Something that can be learnt on a base."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """What the optimiser changes, by the name it has in a checkpoint."""

    def soft(self) -> Soft:
        """What the base sees of it, float32, with the graph that leads to the parameters."""


def scale_of(tensor: Tensor) -> Tensor:
    """Root mean square."""
    return tensor.square().mean().sqrt()


class Moved(nn.Module):
    """An encoder's output, moved to where learning is to begin: initial + scale * (f(e) - f0(e0)).

    The encoder f and its inputs e [p, inputs] learn; f0(e0) is what they gave before the first step. The encoder is
    thrown away afterwards: only its output is kept.
    """

    def __init__(self, encoder: nn.Module, inputs: Tensor, initial: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.inputs = nn.Parameter(inputs)
        self._initial, self._scale = initial, scale_of(initial)
        with torch.no_grad():
            self._began: Tensor = encoder(self.inputs)

    def forward(self) -> Tensor:
        moved: Tensor = self._initial + self._scale * (self.encoder(self.inputs) - self._began)
        return moved

    def named(self) -> dict[str, nn.Parameter]:
        """Its parameters, by name."""
        return dict(self.named_parameters())
