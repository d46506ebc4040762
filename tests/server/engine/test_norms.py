"""Norms are replaced where one operator says the same, and nowhere else."""

import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from server.engine.layers import exchange
from server.engine.norms import FusedRMSNorm, fused_norms


def test_a_plain_rms_norm_becomes_one_operator_with_the_same_numbers() -> None:
    """In float32 to rounding; the weight is the layer's own."""
    norm = LlamaRMSNorm(48, eps=1e-5)
    nn.init.normal_(norm.weight)
    model = nn.Sequential(norm, nn.Linear(48, 48))
    x = torch.randn(2, 5, 48)
    with torch.inference_mode():
        before = norm(x)
        assert exchange(model, fused_norms) == 1
        torch.testing.assert_close(model[0](x), before)
    assert isinstance(model[0], FusedRMSNorm)


def test_other_norms_keep_their_layers() -> None:
    """One plus the weight, a mean taken off, or another formula under the same names."""

    class Doubled(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(hidden_states)

    class Gated(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return gate * super().forward(hidden_states)

    model = nn.Sequential(GemmaRMSNorm(48), nn.LayerNorm(48), Doubled(48, eps=1e-5), Gated(48, eps=1e-5))
    assert exchange(model, fused_norms) == 0
