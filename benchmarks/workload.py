"""The mixed workload: many tasks, each a few pseudo-tokens, their requests interleaved on one random-weight base.

Weights and ids mean nothing; only shapes do. Decoding one id reads every weight once whatever the batch holds, so the
work of a step hardly grows with the number of sequences in it: what is measured is how well requests of *different*
tasks share those reads. Knows no peer.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.tokenizer import write_tokenizer

SEED = 20261123


@dataclass(frozen=True, slots=True)
class Shape:
    """The Llama shape of the base, tied embeddings, bfloat16. The default has 135 million weights."""

    layers: int = 30
    hidden: int = 576
    heads: int = 9
    kv_heads: int = 3
    feed_forward: int = 1536
    vocabulary: int = 49_152
    context: int = 1024
    end: int | None = None
    """The end-of-sequence id, where something is to be learnt: an answer must be able to end."""

    def write(self, folder: Path, device: str = "cpu") -> Path:
        """The checkpoint's folder, written once: random weights, no end-of-sequence id, a tokenizer for all its ids.

        The weights are drawn on `device`: large ones in seconds on a GPU.
        """
        name = f"llama-{self.layers}x{self.hidden}-{self.heads}-{self.kv_heads}-{self.feed_forward}-{self.vocabulary}"
        name += "" if self.end is None else "-ending"
        checkpoint = folder / name
        if not (checkpoint / "model.safetensors").is_file():
            torch.manual_seed(SEED)
            with torch.device(device):
                AutoModelForCausalLM.from_config(self._config(), dtype=torch.bfloat16).save_pretrained(checkpoint)
        if not (checkpoint / "tokenizer.json").is_file():
            write_tokenizer(checkpoint, self.vocabulary)
        return checkpoint

    def _config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            initializer_range=0.06,  # wide enough that bfloat16 rounding seldom changes the best id
            bos_token_id=None,
            eos_token_id=self.end,
            pad_token_id=0,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One request: the input's ids, for the soft prompt of `task`."""

    task: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """`tasks` soft prompts of `length` rows; inputs of `input_tokens` ids, each answered by exactly `new_tokens`."""

    shape: Shape = Shape()
    tasks: int = 32
    length: int = 20
    input_tokens: int = 64
    new_tokens: int = 64

    @property
    def whole(self) -> int:
        """Positions of one sequence: soft prompt, input and answer."""
        return self.length + self.input_tokens + self.new_tokens

    def rows(self) -> npt.NDArray[np.float32]:
        """float32 [tasks, length, hidden], as large as the base's own embeddings."""
        draws = np.random.default_rng(SEED).standard_normal((self.tasks, self.length, self.shape.hidden))
        return (0.06 * draws).astype(np.float32)

    def jobs(self, count: int) -> list[Job]:
        """Task i mod `tasks` for request i: neighbours in a batch are never of one task while tasks last."""
        return [Job(index % self.tasks, row) for index, row in enumerate(self.inputs(count))]

    def inputs(self, count: int) -> list[tuple[int, ...]]:
        """The texts of so many requests, as ids; more requests begin with the same ones."""
        draw = np.random.default_rng(SEED + 1)
        ids = draw.integers(3, self.shape.vocabulary, (count, self.input_tokens))
        return [tuple(row) for row in ids.tolist()]


TINY = Workload(Shape(2, 64, 2, 1, 96, 512, 256), tasks=3, length=4, input_tokens=6, new_tokens=5)
"""Shows in seconds that everything runs; its figures mean nothing."""


def workload(*, tiny: bool) -> Workload:
    """The one that the command asks for."""
    return TINY if tiny else Workload()
