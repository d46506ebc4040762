"""PEFT computes the same logits with the rows that we learn, when we hand them over as its own file."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from prompt_store.peft import to_peft
from prompt_store.template import Template, compose
from tests import models
from tests.tuning.conftest import frozen
from tests.tuning.test_learn import SETTINGS, learnt


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_gives_the_same_logits_with_an_exported_prompt(tmp_path: Path) -> None:
    """Rows in front: the ids we compose through the base, against PEFT's own forward."""
    file, base, plain = learnt(SETTINGS, tmp_path), frozen(), models.random_model()
    to_peft(file, tmp_path / "exported")
    theirs = PeftModel.from_pretrained(models.random_model(), str(tmp_path / "exported")).eval()
    template = Template.parse(SETTINGS.template, "embeddings", SETTINGS.length)
    composed = compose(template, {"text": "play some jazz"}, base.tokenizer.encode, base.tokenizer.bos)
    ids = torch.tensor([composed.ids])
    rows = torch.from_numpy(file.prompt.tensors["embeddings"].float32().copy())
    text = ids[:, SETTINGS.length :]
    with torch.no_grad():
        ours = plain(inputs_embeds=base.embed(ids, rows), use_cache=False).logits
        expected = theirs(input_ids=text, attention_mask=torch.ones_like(text)).logits
        without = plain(input_ids=text, use_cache=False).logits
    assert torch.allclose(ours[0, -1], expected[0, -1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours[0, -1], without[0, -1], atol=0.1), "rows that change nothing prove nothing"
