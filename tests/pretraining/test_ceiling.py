"""A corpus's ceiling is what training on that corpus alone reaches."""

import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from pretraining import ceiling, train
from pretraining.card import Rival
from pretraining.stream import BOS_ID, EOS_ID

WORDS = {word: index for index, word in enumerate(["<s>", "</s>", "<pad>", "a", "b", "c"])}


def a_small_base() -> Rival:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return Rival(LlamaForCausalLM(config), tokenizer)


def test_a_pass_reads_every_document_between_its_bos_and_eos() -> None:
    """In an order of the draw's own; the last ids that fill no row are left out."""
    documents = [[3] * 62, [4] * 126, [5] * 320]
    rows = ceiling.rows_of(documents, random.Random(1))
    assert rows.shape == (2, ceiling.ROW)
    opened = rows.flatten()
    starts = (opened == BOS_ID).nonzero().flatten()
    assert starts[0] == 0
    assert all(opened[start - 1] == EOS_ID for start in starts[1:])


def test_every_pass_lowers_the_loss_on_its_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language of one sentence is learnt."""
    monkeypatch.setattr(train, "STEP_TOKENS", 2 * ceiling.ROW)
    found = list(ceiling.losses(a_small_base(), ["a b c " * 40] * 100, passes=4))
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5 * found[0]


def test_dropout_holds_in_training_only() -> None:
    """A model that is looked at answers as it did before; one that trains does not."""
    base, ids = a_small_base(), torch.tensor([[3, 4, 5, 3]])
    before = base.model.eval()(ids).logits
    ceiling.drop_out(base.model, 0.5)
    assert torch.equal(base.model(ids).logits, before)
    assert not torch.equal(base.model.train()(ids).logits, before)
