"""Full fine-tuning: every weight of the base learns. Not served; a yardstick for what a soft prompt gives up.

Knows the model it changes; nothing of data or objectives.
"""

import torch
from torch import nn

from tuning.base import FrozenBase
from tuning.soft import Soft


class FineTuning:
    """All weights of `base`, which is no longer frozen once this exists: give it a base of its own."""

    def __init__(self, base: FrozenBase) -> None:
        self._model = base.model.requires_grad_(True)
        self._nothing = torch.zeros(0, base.base.hidden, device=base.device)

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self._model.named_parameters())

    def soft(self) -> Soft:
        return Soft(self._nothing)
