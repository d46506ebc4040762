"""Prompt tuning (Lester et al., arXiv 2104.08691): p free rows [p, hidden], everything else frozen.

A method is what is learnt and what the base sees of it; `training` turns the crank. Knows no data and no objective.
"""

from typing import Protocol

from torch import Tensor, nn


class Method(Protocol):
    """Something that can be learnt on a base."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """What the optimiser changes, by the name it has in a checkpoint."""

    def rows(self) -> Tensor:
        """[p, hidden] float32: the pseudo-tokens as the base sees them now; p may be 0."""


class PromptTuning:
    """Rows in units of their first root mean square, so that one learning rate suits bases of any embedding scale."""

    def __init__(self, initial: Tensor) -> None:
        self._scale = initial.square().mean().sqrt()
        self._scaled = nn.Parameter(initial / self._scale)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {"rows": self._scaled}

    def rows(self) -> Tensor:
        return self._scaled * self._scale
