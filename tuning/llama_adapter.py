"""LLaMA-Adapter (Zhang et al., arXiv 2303.16199): prompts of the topmost layers behind gates that begin at zero.

Each token of an adapted layer also attends to the layer's prompts, on a softmax of its own, and the result is
multiplied with tanh(g), one g a head: at first nothing changes, and the prompts come in as far as they help.
"""

import torch
from torch import Tensor, nn

from tuning.method import scale_of
from tuning.soft import Soft

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""`model_type`s whose adapters are served, and whose keys and values have projections of their own."""
LEFT = 1 / 16
"""Share of the lowest layers without prompts: two of 32 in the paper."""


def adapted(layers: int) -> int:
    """How many of the topmost layers have prompts."""
    return layers - max(1, round(layers * LEFT)) if layers > 1 else 1


class LlamaAdapter:
    """`initial` [L_top, p, hidden]: what the layers' attention would read of real text.

    `gates`: as many a layer; the model's heads, or 1, which is all that PEFT knows.
    """

    def __init__(self, initial: Tensor, gates: int) -> None:
        self._nothing = torch.zeros(0, initial.shape[-1], device=initial.device)
        self._scale = torch.stack([scale_of(layer) for layer in initial])[:, None, None]
        self._prompts = nn.Parameter(initial / self._scale)
        self._gates = nn.Parameter(torch.zeros(len(initial), gates, device=initial.device))

    def parameters(self) -> dict[str, nn.Parameter]:
        return {"prompts": self._prompts, "gates": self._gates}

    def soft(self) -> Soft:
        return Soft(self._nothing, side=(self._prompts * self._scale, torch.tanh(self._gates)))
