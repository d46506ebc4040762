"""Prompt tuning (Lester et al., arXiv 2104.08691): p free rows [p, hidden], everything else frozen.

Knows no data and no objective.
"""

from torch import Tensor, nn

from tuning.method import scale_of
from tuning.soft import Soft


class PromptTuning:
    """Rows in units of their first root mean square."""

    def __init__(self, initial: Tensor) -> None:
        self._scale = scale_of(initial)
        self._scaled = nn.Parameter(initial / self._scale)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {"rows": self._scaled}

    def soft(self) -> Soft:
        return Soft(self._scaled * self._scale)
