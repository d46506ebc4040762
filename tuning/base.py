"""The frozen base as the tuner sees it: ids and rows in, logits or answers out.

Pseudo-token i is the id ~i, as `prompt_store.template` composes it. Knows no objectives, no data and no files: whoever
has loaded a model hands it over.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from prompt_store.metadata import Base


class Tokenizer(Protocol):
    """What `prompt_store.template` asks of a tokenizer, and the way back. `bos` None: none is put in front."""

    bos: int | None

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """Ids without added special tokens; special tokens in the text count as such only where asked."""

    def decode(self, ids: list[int]) -> str:
        """Text without special tokens."""


class FrozenBase:
    """A causal language model in eval mode whose weights take no gradient.

    `ends` are the ids that end an answer, the first of which ends a target; `context` is the most positions;
    `sees_all`: every layer attends to everything before it, so a mask of ours may stand in for the model's.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, base: Base, ends: Sequence[int]) -> None:
        if not ends:
            raise ValueError("the base has no end-of-sequence id: an answer could never end")
        if not isinstance(model, PreTrainedModel):
            raise TypeError("the base must be a transformers model")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.base = base
        self.ends = tuple(ends)
        self.embedding: nn.Module = model.get_input_embeddings()
        self.device = model.device
        self.context = int(model.config.max_position_embeddings)
        self.sees_all = getattr(model.config, "sliding_window", None) is None

    def attend_plainly(self) -> None:
        """On a CPU: torch's fused attention takes five times as long backward in bfloat16 as in float32."""
        if self.device.type == "cpu":
            self.model.set_attn_implementation("eager")

    def embed(self, ids: Tensor, rows: Tensor) -> Tensor:
        """ids [..., n] with ~i for row i, rows [p, hidden] -> what block 0 receives [..., n, hidden]."""
        text: Tensor = self.embedding(ids.clamp(min=0))
        if not len(rows):
            return text
        # F.embedding, not an index: its backward adds in a fixed order, so one seed gives the same bytes twice
        soft = F.embedding((~ids).clamp(min=0), rows.to(text.dtype))
        return torch.where((ids < 0)[..., None], soft, text)

    def past(self, head: Sequence[int], rows: Tensor, batch: int) -> DynamicCache | None:
        """Keys and values of the ids that all sequences begin with: computed once, seen by `batch` sequences."""
        if not head:
            return None
        ids = torch.tensor([head], device=self.device)
        cache: DynamicCache = DynamicCache(config=self.model.config)
        self.model(inputs_embeds=self.embed(ids, rows), past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(batch)
        return cache

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], rows: Tensor, max_new_tokens: int) -> list[str]:
        """Greedy answers to prompts that hold rows anywhere, in one padded batch."""
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        config = GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(self.ends), pad_token_id=self.ends[0]
        )
        found = self.model.generate(inputs_embeds=self.embed(ids, rows), attention_mask=mask, generation_config=config)
        return [self.tokenizer.decode(self._answer(row)) for row in found.tolist()]

    def _answer(self, ids: list[int]) -> list[int]:
        stop = next((index for index, token in enumerate(ids) if token in self.ends), len(ids))
        return ids[:stop]
