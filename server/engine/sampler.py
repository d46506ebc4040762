"""From logits to ids: a row's choice depends on its own logits, settings, seed and step, never on its neighbours.

Order of the settings: repetition penalty, temperature, top-k, top-p, min-p. Knows rows of logits; no sequences.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from server.engine.request import Sampling

LogSums = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of logits x [R, V] and each row's largest [R]: ln of the row's sum of e^(x - largest), [R]."""
CANDIDATES = 1024
"""Top-k and top-p look at this many best ids first; a row that needs more is sorted whole."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one row of logits is to be turned into: `step` counts generated ids, `seen` feeds the penalty."""

    sampling: Sampling
    step: int
    seen: Sequence[int]


@dataclass(frozen=True, slots=True)
class Choice:
    """`finite` False: the row held NaN or an infinity, `id` means nothing."""

    id: int
    finite: bool
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def uniform(seed: int, choice: int, step: int) -> float:
    """The one random number of a sampled id, in [0, 1): 53 bits of BLAKE2b over (seed, choice, step)."""
    digest = hashlib.blake2b(b"%d/%d/%d" % (seed, choice, step), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def choose(
    logits: torch.Tensor, wishes: Sequence[Wish], greedy: tuple[torch.Tensor, torch.Tensor], log_sums: LogSums
) -> list[Choice]:
    """logits [R, V], one wish a row; `greedy`: each row's largest, NaN where there is one, and its id, both [R]."""
    best, ids = greedy
    chosen, finite = ids.tolist(), torch.isfinite(best).tolist()
    for row, wish in enumerate(wishes):
        sampling = wish.sampling
        if not finite[row] or (sampling.temperature == 0 and sampling.repetition_penalty == 1):
            continue
        scores = logits[row].float()
        if sampling.repetition_penalty != 1:
            scores = _penalised(scores, wish)
        chosen[row] = _draw(scores, wish) if sampling.temperature > 0 else int(scores.argmax())
    found = [Choice(token, ok) for token, ok in zip(chosen, finite, strict=True)]
    asked = [row for row, wish in enumerate(wishes) if wish.sampling.logprobs is not None and finite[row]]
    if asked:
        some, most = (logits, best) if len(asked) == len(wishes) else (logits[asked], best[asked])
        norm = (most, log_sums(some, most))
        counts = [wishes[row].sampling.logprobs or 0 for row in asked]
        told = _with_logprobs(some, [chosen[row] for row in asked], counts, norm)
        for row, one in zip(asked, told, strict=True):
            found[row] = one
    return found


def tell(
    logits: torch.Tensor, ids: Sequence[int], counts: Sequence[int], best: torch.Tensor, log_sums: LogSums
) -> list[Choice]:
    """The ids that stand there, as if they had been chosen: logits [R, V], each row's `best` [R]."""
    told = _with_logprobs(logits, ids, counts, (best, log_sums(logits, best)))
    finite = torch.isfinite(best).tolist()
    return [one if ok else Choice(one.id, finite=False) for one, ok in zip(told, finite, strict=True)]


def _penalised(row: torch.Tensor, wish: Wish) -> torch.Tensor:
    """Keskar et al. (arXiv 1909.05858): seen ids' logits divided by the penalty where positive, else multiplied."""
    seen = torch.tensor(sorted({token for token in wish.seen if token >= 0}), device=row.device)
    if not len(seen):
        return row
    values = row[seen]
    penalty = wish.sampling.repetition_penalty
    return row.index_copy(0, seen, torch.where(values > 0, values / penalty, values * penalty))


def _draw(row: torch.Tensor, wish: Wish) -> int:
    """Inverse transform over the ids that the settings leave, in float64."""
    sampling = wish.sampling
    scaled = (row.double() - row.max()) / sampling.temperature
    if sampling.top_k == 0 and sampling.top_p >= 1.0:
        weights, ids = scaled.exp(), None
    else:
        weights, ids = _top(scaled, sampling)
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


def _with_logprobs(
    logits: torch.Tensor, ids: Sequence[int], counts: Sequence[int], norm: tuple[torch.Tensor, torch.Tensor]
) -> list[Choice]:
    """Natural logs of the raw logits [R, V] for the ids chosen, and so many of the best for each.

    `norm`: each row's largest and LogSums of it. The largest goes first: large logits would take the digits of both.
    """
    most, log_sums = norm
    index = torch.tensor(ids, device=logits.device)
    own = (logits.gather(1, index[:, None])[:, 0].float() - most - log_sums).tolist()
    best_ids: list[list[int]] = [[]] * len(ids)
    best: list[list[float]] = [[]] * len(ids)
    if max(counts):
        top = torch.topk(logits.float(), min(max(counts), logits.shape[1]))
        best_ids, best = top.indices.tolist(), (top.values - most[:, None] - log_sums[:, None]).tolist()
    return [
        Choice(token, finite=True, logprob=logprob, top=tuple(zip(tops[:count], logs[:count], strict=True)))
        for token, logprob, tops, logs, count in zip(ids, own, best_ids, best, counts, strict=True)
    ]
