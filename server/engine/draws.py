"""One id of a row of scores, as its settings and its own random number say: inverse transform sampling in float64.

Order of the settings: temperature, top-k, top-p, min-p. Knows scores and settings; no logits, no sequences.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.engine.request import Sampling

CANDIDATES = 1024
"""Top-k and top-p look at this many best ids first; a row that needs more is sorted whole."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one row of logits is to be turned into: `step` counts generated ids, `seen` feeds the penalty."""

    sampling: Sampling
    step: int
    seen: Sequence[int]


def uniform(seed: int, choice: int, step: int) -> float:
    """The one random number of a sampled id, in [0, 1): 53 bits of BLAKE2b over (seed, choice, step)."""
    digest = hashlib.blake2b(b"%d/%d/%d" % (seed, choice, step), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def draw(row: torch.Tensor, wish: Wish) -> int:
    """Inverse transform over the ids that the settings leave, in float64."""
    sampling = wish.sampling
    scaled = (row.double() - row.max()) / sampling.temperature
    weights, ids = _top(scaled, sampling) if _is_narrow(sampling) else (scaled.exp(), None)
    if sampling.min_p > 0:
        weights = torch.where(weights >= sampling.min_p * weights.max(), weights, 0.0)
    total = weights.cumsum(0)
    point = uniform(sampling.seed, sampling.choice, wish.step) * total[-1]
    index = min(int(torch.searchsorted(total, point, right=True)), len(total) - 1)
    return index if ids is None else int(ids[index])


def _top(scaled: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights, ids) of the best ids, descending, that top-k and then top-p leave; the best one always stays."""
    size = len(scaled)
    few = min(size, CANDIDATES)
    top = torch.topk(scaled, few)
    total = scaled.exp().sum() if sampling.top_k == 0 else None
    if few < size and (sampling.top_k > few or (total is not None and top.values.exp().sum() < sampling.top_p * total)):
        top = torch.topk(scaled, size)
    keep = sampling.top_k if 0 < sampling.top_k < size else size
    weights, ids = top.values[:keep].exp(), top.indices[:keep]
    if sampling.top_p < 1.0:
        before = weights.cumsum(0) - weights
        weights = torch.where(before < sampling.top_p * (weights.sum() if total is None else total), weights, 0.0)
    return weights, ids


def draw_all(scores: torch.Tensor, wishes: Sequence[Wish]) -> list[int]:
    """What `draw` makes of every row of scores [R, V], with as many operators as for one: on a GPU each is a launch."""
    rows = range(len(wishes))
    wide = [row for row in rows if not _is_narrow(wishes[row].sampling)]
    narrow = [row for row in rows if _is_narrow(wishes[row].sampling)]
    found = dict(zip(wide, _drawn_of_all(scores, wide, wishes), strict=True))
    few = min(scores.shape[1], CANDIDATES)
    while narrow:
        tokens = _drawn_of(few, scores, narrow, wishes)
        found |= zip(narrow, tokens, strict=True)
        narrow = [row for row, token in zip(narrow, tokens, strict=True) if token < 0]
        few = scores.shape[1]
    return [found[row] for row in rows]


def _is_narrow(sampling: Sampling) -> bool:
    """Whether some ids are left out by how likely they are beside others."""
    return sampling.top_k > 0 or sampling.top_p < 1.0


def _drawn_of_all(scores: torch.Tensor, rows: Sequence[int], wishes: Sequence[Wish]) -> list[int]:
    """Of some rows, any of their ids."""
    if not rows:
        return []
    chosen = [wishes[row] for row in rows]
    return [*_points(_scaled(scores, rows, chosen).exp(), chosen)[:, 0].tolist()]


def _drawn_of(few: int, scores: torch.Tensor, rows: Sequence[int], wishes: Sequence[Wish]) -> list[int]:
    """Of some rows, one of the best ids that top-k and top-p leave; -1 where the `few` best are too few to tell."""
    chosen, size = [wishes[row] for row in rows], scores.shape[1]
    scaled = _scaled(scores, rows, chosen)
    keep = _column([wish.sampling.top_k or size for wish in chosen], scaled)
    top_p = _column([wish.sampling.top_p for wish in chosen], scaled)
    everything = scaled.exp().sum(-1, keepdim=True)
    top = torch.topk(scaled, few)
    weights = top.values.exp()
    enough = torch.where(keep < size, keep <= few, weights.sum(-1, keepdim=True) >= top_p * everything) | (few == size)
    weights = torch.where(torch.arange(few, device=scaled.device) < keep, weights, 0.0)
    kept = torch.where(keep < size, weights.sum(-1, keepdim=True), everything)
    inside = (weights.cumsum(-1) - weights < top_p * kept) | (top_p >= 1.0)
    ids = top.indices.gather(-1, _points(torch.where(inside, weights, 0.0), chosen))
    return [*torch.where(enough, ids, -1)[:, 0].tolist()]


def _scaled(scores: torch.Tensor, rows: Sequence[int], wishes: Sequence[Wish]) -> torch.Tensor:
    """float64 [n, V]: the largest of every row is 0."""
    some = (scores if len(rows) == len(scores) else scores[list(rows)]).double()
    return (some - some.amax(-1, keepdim=True)) / _column([wish.sampling.temperature for wish in wishes], some)


def _points(weights: torch.Tensor, wishes: Sequence[Wish]) -> torch.Tensor:
    """Where the noise of every row falls among its weights [n, m] that min-p leaves: int64 [n, 1]."""
    min_p = _column([wish.sampling.min_p for wish in wishes], weights)
    total = torch.where(weights >= min_p * weights.amax(-1, keepdim=True), weights, 0.0).cumsum(-1)
    noise = _column([uniform(w.sampling.seed, w.sampling.choice, w.step) for w in wishes], weights)
    return torch.searchsorted(total, noise * total[:, -1:], right=True).clamp_(max=total.shape[1] - 1)


def _column(numbers: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """float64 [R, 1]."""
    return torch.tensor(numbers, dtype=torch.float64, device=like.device)[:, None]
