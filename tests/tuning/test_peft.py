"""PEFT computes the same logits with what we learn, when we hand it over as PEFT's own files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from prompt_store.peft import to_peft
from tests import models
from tests.tuning.conftest import LABELS, examples, frozen
from tests.tuning.test_crowd import scored
from tests.tuning.test_learn import PLAN, SETTINGS
from tuning.encoding import encode
from tuning.files import encoder_of, soft_of
from tuning.learn import Tuning
from tuning.methods import METHODS, MethodName, Options
from tuning.scorer import BaseScorer


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("method", [method for method, told in METHODS.items() if told.kind is not None])
def test_peft_gives_every_exported_prompt_the_same_logits(tmp_path: Path, method: MethodName, family: str) -> None:
    """Its own forward over the text alone, against ours; the figures that it was kept for are PEFT's too."""
    base = frozen(family)
    options = Options(init="labels", gate_per_layer=True)
    plan = replace(PLAN, steps=6, learning_rate=METHODS[method].rate_for(options))
    run = Tuning(base, replace(SETTINGS, method=method, plan=plan, options=options), examples(), examples())
    for _ in run.events(tmp_path / "checkpoint"):
        pass
    file = run.prompt_file()
    to_peft(file, tmp_path / "exported")
    theirs = PeftModel.from_pretrained(models.random_model(family), str(tmp_path / "exported")).eval()
    some = encode(examples(6), encoder_of(base, file, LABELS), base.context)
    text = [replace(one, prompt=tuple(token for token in one.prompt if token >= 0)) for one in some]

    def logits(ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        return found[-ids.shape[1] :]

    ours = BaseScorer(base, soft_of(base, file)).likelihoods(some)
    assert torch.tensor(ours) == pytest.approx(torch.tensor(scored(logits, text)), rel=1e-4, abs=1e-3)
    plain = BaseScorer(base).likelihoods(text)
    assert float((torch.tensor(ours) - torch.tensor(plain)).abs().max()) > 0.01, "what changes nothing proves nothing"
