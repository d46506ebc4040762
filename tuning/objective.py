"""What learning makes small: two losses over the same log-likelihoods.

`labels`: cross-entropy over the likelihoods of the task's labels, the very figures `/classify` compares, and a share
of the negative log of their sum: among the labels alone a soft prompt may learn to choose well and say none of them.
`lm`: mean negative log-likelihood of a token of the target, for free text. Knows no model and no optimiser.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tuning.encoding import Encoded

Objective = Literal["labels", "lm"]

SPOKEN = 0.05
"""Weight of the labels' total probability. At 1 the loss is plain language modelling of the label; at .3 deep methods
no longer learn to choose where that is hard, at .05 greedy text may say none of few rows' labels (docs/log.md)."""


def choice_loss(found: Tensor, batch: Sequence[Encoded]) -> Tensor:
    """found [batch, labels] log-likelihoods -> cross-entropy over the labels, in nats a row."""
    return F.cross_entropy(found, torch.tensor([one.right for one in batch], device=found.device))


def loss(objective: Objective, found: Tensor, batch: Sequence[Encoded]) -> Tensor:
    """found [batch, answers] log-likelihoods -> one number, in nats a row (`labels`) or a token (`lm`)."""
    return total(objective, found, batch) / size(objective, batch)


def total(objective: Objective, found: Tensor, batch: Sequence[Encoded]) -> Tensor:
    """The same of any part of a batch, to be divided by the `size` of the whole."""
    right = torch.tensor([one.right for one in batch], device=found.device)
    if objective == "labels":
        return F.cross_entropy(found, right, reduction="sum") - SPOKEN * found.logsumexp(1).sum()
    return -found.gather(1, right[:, None]).sum()


def size(objective: Objective, batch: Sequence[Encoded]) -> int:
    """Rows (`labels`) or tokens of the targets (`lm`)."""
    return len(batch) if objective == "labels" else sum(len(one.answers[one.right]) for one in batch)
