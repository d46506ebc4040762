"""Where learning begins: from the base and its text rather than from noise (Lester et al., arXiv 2104.08691).

`vocabulary`: ids drawn from the most frequent of the training text. `text`: the ids of a text, repeated to the length.
`labels`: the mean embedding of each label, in turn; then vocabulary. `random`: noise as loud as the vocabulary, to be
compared with. What stands deeper begins with what the base
itself makes of such rows: their keys and values, or what its attention reads. Knows ids and the base; not how rows are
learnt.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, cycle, islice
from typing import Literal

import torch
from torch import Tensor

from tuning.base import FrozenBase
from tuning.scene import Scene

Init = Literal["vocabulary", "text", "labels", "random"]
FREQUENT = 1000


def vocabulary(texts: Iterable[Sequence[int]], length: int, seed: int) -> list[int]:
    """Distinct ids where the training text has enough, pseudo-tokens left out."""
    counts = Counter(token for token in chain.from_iterable(texts) if token >= 0)
    frequent = [token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]]
    drawn = random.Random(f"{seed}/init").sample(frequent, min(length, len(frequent)))
    return list(islice(cycle(drawn), length))


def text(base: FrozenBase, words: str, length: int) -> list[int]:
    """Raises ValueError for a text without tokens."""
    ids = base.tokenizer.encode(words, False)
    if not ids:
        raise ValueError("the text to start from has no tokens")
    return list(islice(cycle(ids), length))


def labels(base: FrozenBase, names: Sequence[str], delimiter: str, rest: Tensor) -> Tensor:
    """[length, hidden] as `rest`, whose first rows become the labels' mean embeddings, as many as there is room for."""
    means = [embedded(base, base.tokenizer.encode(delimiter + name, False)).mean(0) for name in names[: len(rest)]]
    return torch.cat([torch.stack(means), rest[len(means) :]])


def noise(base: FrozenBase, length: int, seed: int) -> Tensor:
    """[length, hidden]: normal, with the root mean square of the base's embeddings."""
    weight: Tensor = base.embedding.weight  # type: ignore[assignment]  # an embedding has one
    drawn = torch.randn(length, weight.shape[1], generator=torch.Generator().manual_seed(seed))
    return drawn.to(weight.device) * weight.detach().float().square().mean().sqrt()


@torch.no_grad()
def embedded(base: FrozenBase, ids: Sequence[int]) -> Tensor:
    """[length, hidden]."""
    found: Tensor = base.embedding(torch.tensor(ids, device=base.device)).float()
    return found


@torch.no_grad()
def keys_values(base: FrozenBase, rows: Tensor) -> Tensor:
    """What the base has for rows [p, hidden] at the beginning of a text, as cached: [L, 2, H_kv, p, D]."""
    scene = _read(base, rows)
    recorded = scene.recorded or {}
    return torch.stack([torch.stack([side[0] for side in recorded[layer]]) for layer in sorted(recorded)]).float()


@torch.no_grad()
def attention_inputs(base: FrozenBase, rows: Tensor, top: int) -> Tensor:
    """What the topmost layers' attention reads of rows [p, hidden] at the beginning of a text: [top, p, hidden]."""
    held: dict[int, Tensor] = {}
    hooks = []
    for layer, module in base.attentions.items():

        def keep(_module: torch.nn.Module, given: tuple[Tensor], layer: int = layer) -> None:
            held[layer] = given[0][0]

        hooks.append(module.k_proj.register_forward_pre_hook(keep))
    try:
        _read(base, rows)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([held[layer] for layer in sorted(held)[-top:]]).float()


def _read(base: FrozenBase, rows: Tensor) -> Scene:
    at = torch.arange(len(rows), device=base.device)[None]
    first = torch.zeros(1, dtype=torch.int64, device=base.device)
    scene = Scene(at, first, recorded={})
    base.logits(scene, base.embed(~at, rows), first, first)
    return scene
