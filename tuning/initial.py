"""First rows of a soft prompt, taken from the base's own embedding and never from noise (Lester et al., 2104.08691).

`vocabulary`: ids drawn from the most frequent of the training text. `text`: the ids of a text, repeated to the length.
`labels`: the mean embedding of each label, in turn; then vocabulary. Knows ids and embeddings; not how rows are learnt.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, cycle, islice
from typing import Literal

import torch
from torch import Tensor

from tuning.base import FrozenBase

Init = Literal["vocabulary", "text", "labels"]
FREQUENT = 1000


def vocabulary(base: FrozenBase, texts: Iterable[Sequence[int]], length: int, seed: int) -> Tensor:
    """[length, hidden]: distinct ids where the training text has enough, pseudo-tokens left out."""
    counts = Counter(token for token in chain.from_iterable(texts) if token >= 0)
    frequent = [token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]]
    drawn = random.Random(f"{seed}/init").sample(frequent, min(length, len(frequent)))
    return _embedded(base, list(islice(cycle(drawn), length)))


def text(base: FrozenBase, words: str, length: int) -> Tensor:
    """[length, hidden]. Raises ValueError for a text without tokens."""
    ids = base.tokenizer.encode(words, False)
    if not ids:
        raise ValueError("the text to start from has no tokens")
    return _embedded(base, list(islice(cycle(ids), length)))


def labels(base: FrozenBase, names: Sequence[str], delimiter: str, rest: Tensor) -> Tensor:
    """[length, hidden] as `rest`, whose first rows become the labels' mean embeddings, as many as there is room for."""
    means = [_embedded(base, base.tokenizer.encode(delimiter + name, False)).mean(0) for name in names[: len(rest)]]
    return torch.cat([torch.stack(means), rest[len(means) :]])


@torch.no_grad()
def _embedded(base: FrozenBase, ids: Sequence[int]) -> Tensor:
    found: Tensor = base.embedding(torch.tensor(ids, device=base.device)).float()
    return found
