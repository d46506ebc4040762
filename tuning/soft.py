"""A soft prompt while it is learnt: tensors that may carry gradients, whatever the kind. Knows no model and no data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class LowRank:
    """What a linear layer's output gains from its input x (LoRA): x down^T up^T; down [r, in], up [out, r]."""

    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What a module's output y gains from itself (Houlsby's adapter): relu(y down^T + inner) up^T + outer.

    down [m, d], inner [m], up [d, m], outer [d].
    """

    down: Tensor
    inner: Tensor
    up: Tensor
    outer: Tensor


Change = LowRank | Bottleneck


@dataclass(frozen=True, slots=True)
class Soft:
    """What one method adds to the frozen base.

    `rows` [p, hidden]: the pseudo-tokens ~0 .. ~(p - 1) of the text; p may be 0. `deep`: keys and values
    [L, H_kv, p, D] in front of it, as cached. `side`: prompts [L_top, p, hidden] of the topmost layers and what their
    attention is multiplied with, [L_top, 1 or heads]. `changes`: by the name of the module that they change.
    """

    rows: Tensor
    deep: Pair | None = None
    side: Pair | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)
