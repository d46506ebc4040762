"""Prefix tuning (Li and Liang, arXiv 2101.00190): keys and values of p positions in front, at every layer.

P[i] = MLP(P'[i]) with `reparametrised`: a smaller matrix P' [p, hidden] through tanh of `MIDDLE` units, and the MLP is
thrown away. The paper needs it where P begins at random; begun with the keys and values that the base itself has for
real text, P learns as well alone (docs/log.md).
"""

import torch
from torch import Tensor, nn

from tuning.method import Moved
from tuning.soft import Soft

MIDDLE = 512
"""Units between, as in the paper."""


class PrefixTuning:
    """`initial` [L, 2, H_kv, p, D]: keys and values of every layer as cached; seen by the base behind no rows."""

    def __init__(self, initial: Tensor, hidden: int, seed: int, *, reparametrised: bool) -> None:
        self._nothing = torch.zeros(0, hidden, device=initial.device)
        self._shape = initial.shape
        self._scale = initial.square().mean((2, 3, 4), keepdim=True).sqrt()  # keys and values of each layer apart
        self._initial = initial
        self._encoder: Moved | None = None
        self._moved = nn.Parameter(torch.zeros_like(initial))
        if reparametrised:
            layers, sides, heads, length, size = initial.shape
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                width = layers * sides * heads * size
                net = nn.Sequential(nn.Linear(hidden, MIDDLE), nn.Tanh(), nn.Linear(MIDDLE, width))
                inputs = torch.randn(length, hidden)
            flat = (initial / self._scale).permute(3, 0, 1, 2, 4).reshape(length, width)
            self._encoder = Moved(net.to(initial.device), inputs.to(initial.device), flat)

    def parameters(self) -> dict[str, nn.Parameter]:
        return self._encoder.named() if self._encoder is not None else {"moved": self._moved}

    def soft(self) -> Soft:
        if self._encoder is None:
            whole = self._initial + self._moved * self._scale
        else:
            layers, sides, heads, length, size = self._shape
            flat = self._encoder().view(length, layers, sides, heads, size)
            whole = flat.permute(1, 2, 3, 0, 4) * self._scale
        return Soft(self._nothing, deep=(whole[:, 0], whole[:, 1]))
