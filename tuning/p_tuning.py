"""P-tuning (Liu et al., arXiv 2103.10385): rows anywhere in the template, through an encoder that is thrown away.

h_i = MLP([forward LSTM(h_0 .. h_i) : backward LSTM(h_i .. h_m)]) for `lstm`, h_i = MLP(h_i) for `mlp`; the MLP has two
layers and ReLU between them. Rows begin where `initial` says, not where a fresh encoder would put them.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from tuning.method import Moved
from tuning.soft import Soft

Encoder = Literal["mlp", "lstm"]


class _Lstm(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(hidden, hidden // 2, num_layers=2, bidirectional=True, batch_first=True)
        self.mlp = _mlp(hidden // 2 * 2, hidden)

    def forward(self, inputs: Tensor) -> Tensor:
        mixed, _ = self.lstm(inputs[None])
        encoded: Tensor = self.mlp(mixed[0])
        return encoded


def _mlp(inputs: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


class PTuning:
    """`initial` [p, hidden]: where the rows begin."""

    def __init__(self, initial: Tensor, encoder: Encoder, seed: int) -> None:
        hidden = initial.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = _Lstm(hidden) if encoder == "lstm" else _mlp(hidden, hidden)
            inputs = torch.randn(initial.shape)
        self._rows = Moved(net.to(initial.device), inputs.to(initial.device), initial)

    def parameters(self) -> dict[str, nn.Parameter]:
        return self._rows.named()

    def soft(self) -> Soft:
        return Soft(self._rows())
