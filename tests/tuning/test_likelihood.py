"""The packed forward pass against the plain one, an answer at a time."""

from collections.abc import Sequence

import pytest
import torch

from prompt_store.template import Template
from tests import models
from tests.models import FAMILIES, rows
from tests.tuning.conftest import LABELS, examples, frozen
from tuning.base import FrozenBase
from tuning.encoding import Encoded, Encoder, encode, shared_head
from tuning.likelihood import of_one
from tuning.objective import Objective, choice_loss, loss
from tuning.soft import Soft

TEMPLATES = ("{soft:5}{text} Intent:", "Say {text}\n{soft:3}it is{soft:2}")


def encoded(base: FrozenBase, template: str, labels: Sequence[str] | None) -> list[Encoded]:
    """Five rows of the made-up task, of unequal widths."""
    parsed = Template.parse(template, "embeddings", 5)
    encoder = Encoder(parsed, " ", base.tokenizer.encode, base.tokenizer.bos, 1, tuple(labels) if labels else None)
    return encode(examples(5), encoder, base.context)


def alone(base: FrozenBase, soft: torch.Tensor, one: Encoded) -> list[float]:
    """Each answer by itself behind its prompt, by transformers: no cache, no padding, no mask, all logits."""
    plain = models.random_model(base.base.name)
    found = []
    for answer in one.answers:
        ids = torch.tensor([[*one.prompt, *answer]])
        logits = plain(inputs_embeds=base.embed(ids, soft), use_cache=False).logits[0].double().log_softmax(-1)
        first = len(one.prompt) - 1
        found.append(sum(logits[first + n, token].item() for n, token in enumerate(answer)))
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("labels", [LABELS, None])
def test_a_padded_batch_gives_each_answer_the_likelihood_it_has_alone(
    family: str, template: str, labels: Sequence[str] | None
) -> None:
    """Shared head, padding and answers side by side change no likelihood, in any family, rows anywhere."""
    base, soft = frozen(family), rows(5)
    batch = encoded(base, template, labels)
    assert len({len(one.prompt) for one in batch}) > 1
    found = of_one(base, Soft(soft), batch, shared_head(batch))
    expected = torch.tensor([alone(base, soft, one) for one in batch])
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert expected.std() > 1, "a reference that knows no difference proves nothing"


@pytest.mark.parametrize("objective", ["labels", "lm"])
def test_padding_changes_neither_loss_nor_gradient(base: FrozenBase, objective: Objective) -> None:
    """The loss and its gradient of a padded batch are those of batches of one, to 1e-5."""
    batch = encoded(base, TEMPLATES[1], LABELS if objective == "labels" else None)
    weights = [len(one.answers[0]) if objective == "lm" else 1 for one in batch]
    head = shared_head(batch)
    padded, single = (rows(5).requires_grad_() for _ in range(2))
    together = loss(objective, of_one(base, Soft(padded), batch, head), batch)
    together.backward()
    apart = sum(
        loss(objective, of_one(base, Soft(single), [one], head), [one]) * weight
        for one, weight in zip(batch, weights, strict=True)
    ) / sum(weights)
    assert isinstance(apart, torch.Tensor)
    apart.backward()
    assert together.item() == pytest.approx(apart.item(), rel=1e-5)
    assert padded.grad is not None
    assert single.grad is not None
    assert torch.allclose(padded.grad, single.grad, rtol=1e-5, atol=1e-5 * single.grad.abs().max().item())


def test_the_choice_is_cross_entropy_over_the_labels(base: FrozenBase) -> None:
    """softmax over the summed log-probabilities, as `/classify` makes its probabilities."""
    batch, soft = encoded(base, TEMPLATES[0], LABELS), rows(5)
    found = choice_loss(of_one(base, Soft(soft), batch, shared_head(batch)), batch)
    sums = torch.tensor([alone(base, soft, one) for one in batch])
    right = torch.tensor([one.right for one in batch])
    assert found.item() == pytest.approx(-sums.log_softmax(1)[torch.arange(len(batch)), right].mean().item(), rel=1e-5)


def test_one_token_labels_are_never_fed(base: FrozenBase) -> None:
    """A batch of one-token answers is as wide as its prompts: a single forward over what is left of them."""
    batch = [Encoded((*range(10, 10 + n), 7), ((5,), (6,))) for n in (3, 6)]
    widths: list[int] = []
    base.model.get_input_embeddings().register_forward_hook(lambda _, args, __: widths.append(args[0].shape[-1]))
    of_one(base, Soft(rows(0)), batch, head=[10])
    assert widths == [1, 6]
