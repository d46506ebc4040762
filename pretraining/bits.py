"""Bits per byte of a text under a causal model: the figure that compares models with different tokenizers.

Knows token ids and log-probabilities; not where texts come from nor how a model was made.
"""

import math
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import nn

STRIDE = 2
"""A long text is read in windows that overlap by 1/STRIDE: each scored id sees at least that part of the context."""


def _windows(ids: list[int], context: int) -> list[tuple[list[int], int]]:
    """(ids of the window, how many of its last ids are scored). The first id of a text, its BOS, is never scored."""
    found = []
    scored = 1
    while scored < len(ids):
        start = 0 if scored == 1 else scored - context // STRIDE
        window = ids[start : start + context]
        found.append((window, start + len(window) - scored))
        scored = start + len(window)
    return found


@torch.inference_mode()
def nats(model: nn.Module, texts: Sequence[list[int]], context: int, batch: int = 16) -> float:
    """Negative log-likelihood, in nats, of all ids but the first of each text; `context` is the window in tokens."""
    windows = sorted((w for ids in texts for w in _windows(ids, context)), key=lambda w: len(w[0]))
    total = 0.0
    for start in range(0, len(windows), batch):
        part = windows[start : start + batch]
        width = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in part])
        # right padding: a causal model's real positions never see it
        log_probs = model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        picked = log_probs.gather(-1, ids[:, 1:, None])[..., 0]
        for row, (window, scored) in enumerate(part):
            total -= picked[row, len(window) - 1 - scored : len(window) - 1].double().sum().item()
    return total


def bits_per_byte(model: nn.Module, tokenizer: Tokenizer, texts: Sequence[str], context: int) -> float:
    """Each text is read on its own after the tokenizer's BOS; bytes are those of its UTF-8 form."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    return nats(model, encoded, context) / math.log(2) / sum(len(text.encode()) for text in texts)
