"""What learning makes small."""

import pytest
import torch

from tuning.encoding import Encoded
from tuning.objective import SPOKEN, choice_loss, loss

BATCH = [Encoded(prompt=(0, 5), answers=((7,), (8, 9)), right=right) for right in (0, 1)]


def test_a_label_that_is_never_said_costs_though_it_is_chosen() -> None:
    """The same choice among the labels at a tenth of their probability loses by a share of log 10."""
    said = torch.log(torch.tensor([[0.6, 0.2], [0.1, 0.7]]))
    whispered = said - torch.log(torch.tensor(10.0))
    assert choice_loss(said, BATCH) == pytest.approx(float(choice_loss(whispered, BATCH)))
    gained = loss("labels", whispered, BATCH) - loss("labels", said, BATCH)
    assert float(gained) == pytest.approx(SPOKEN * float(torch.log(torch.tensor(10.0))), rel=1e-5)


def test_free_text_costs_nats_a_token() -> None:
    """Long and short targets weigh by their tokens."""
    found = torch.tensor([[-3.0, -50.0], [-50.0, -5.0]])
    assert float(loss("lm", found, BATCH)) == pytest.approx((3 + 5) / (1 + 2))
