"""What learning makes small: two losses over the same log-likelihoods.

`labels`: cross-entropy over the likelihoods of the task's labels, the very figures `/classify` compares.
`lm`: mean negative log-likelihood of a token of the target, for free text. Knows no model and no optimiser.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tuning.encoding import Encoded

Objective = Literal["labels", "lm"]


def loss(objective: Objective, found: Tensor, batch: Sequence[Encoded]) -> Tensor:
    """found [batch, answers] log-likelihoods -> one number, in nats a row (`labels`) or a token (`lm`)."""
    right = torch.tensor([one.right for one in batch], device=found.device)
    if objective == "labels":
        return F.cross_entropy(found, right)
    tokens = sum(len(one.answers[one.right]) for one in batch)
    return -found.gather(1, right[:, None]).sum() / tokens
