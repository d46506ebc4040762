"""The frozen base as the tuner sees it: ids, a scene and soft prompts in, logits out.

Pseudo-token i is the id ~i, as `prompt_store.template` composes it. Knows no objectives, no data and no files: whoever
has loaded a model hands it over.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from prompt_store.metadata import Base
from tuning.attention import Attention
from tuning.changes import Changes
from tuning.scene import Scene

POSITIONS = 2048
"""Padded positions of one pass, about: more would leave a CPU's caches and gain nothing."""


class Interrupted(Exception):  # noqa: N818 - no error: somebody wants the run to stop here
    """Raised by whoever is asked to `pace` a run: it is saved where it is, and goes on from there another time.

    `unsaved`: why it could not be saved.
    """

    unsaved: str | None = None


class Tokenizer(Protocol):
    """What `prompt_store.template` asks of a tokenizer, and the way back. `bos` None: none is put in front."""

    bos: int | None

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """Ids without added special tokens; special tokens in the text count as such only where asked."""

    def decode(self, ids: list[int]) -> str:
        """Text without special tokens."""


class FrozenBase:
    """A causal language model in eval mode whose weights take no gradient.

    `ends` are the ids that end an answer, the first of which ends a target; `context` is the most positions.
    `attentions`: the attention module of every layer, by number. The model attends as the tuner wants from here on.
    `parameters`: how many numbers the base has; said by whoever has laid them out in a way that cannot be counted.
    `pace` is called before every pass: whoever shares the machine may wait there, or raise `Interrupted`. `positions`:
    about so many padded ones a pass.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        base: Base,
        ends: Sequence[int],
        parameters: int | None = None,
    ) -> None:
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
        self._attention = Attention()
        model.set_attn_implementation(self._attention.name)
        self.changes = Changes(model)
        self.attentions: dict[int, Any] = {
            int(module.layer_idx): module  # type: ignore[arg-type]
            for module in model.modules()
            if hasattr(module, "layer_idx") and hasattr(module, "is_causal")
        }
        self.parameters = parameters or sum(parameter.numel() for parameter in model.parameters())
        self.pace: Callable[[], None] | None = None
        self.positions = POSITIONS
        self._wanted: tuple[Tensor, Tensor] | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._pick)

    def embed(self, ids: Tensor, rows: Tensor) -> Tensor:
        """ids [..., n] with ~i for row i, rows [p, hidden] -> what block 0 receives [..., n, hidden]."""
        text: Tensor = self.embedding(ids.clamp(min=0))
        if not len(rows):
            return text
        # F.embedding, not an index: its backward adds in a fixed order, so one seed gives the same bytes twice
        soft = F.embedding((~ids).clamp(min=0), rows.to(text.dtype))
        return torch.where((ids < 0)[..., None], soft, text)

    def logits(self, scene: Scene, embedded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """One forward pass over embedded [B, n, hidden]; logits [N, V] of the places (rows[i], columns[i])."""
        if self.pace is not None:
            self.pace()
        self._attention.scene = scene
        self._wanted = rows, columns
        self.changes.scene = scene
        try:
            found = self.model(inputs_embeds=embedded, position_ids=scene.positions, use_cache=False)
        finally:
            self._wanted = None
            self.changes.scene = None
        logits: Tensor = found.logits[0]
        return logits

    def _pick(self, _module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor] | None:
        """In front of the output layer: of all hidden states only those whose logits are wanted."""
        if self._wanted is None:
            return None
        rows, columns = self._wanted
        return (given[0][rows, columns][None],)
