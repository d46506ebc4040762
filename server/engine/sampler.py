"""From logits to ids: a row's choice depends on its own logits, settings, seed and step, never on its neighbours.

Order of the settings: repetition penalty, temperature, top-k, top-p, min-p. Knows rows of logits; no sequences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from server.engine.draws import Wish, draw, draw_all

LogSums = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of logits x [R, V] and each row's largest [R]: ln of the row's sum of e^(x - largest), [R]."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`finite` False: the row held NaN or an infinity, `id` means nothing."""

    id: int
    finite: bool
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def choose(
    logits: torch.Tensor, wishes: Sequence[Wish], greedy: tuple[torch.Tensor, torch.Tensor], log_sums: LogSums
) -> list[Choice]:
    """logits [R, V], one wish a row; `greedy`: each row's largest, NaN where there is one, and its id, both [R]."""
    best, ids = greedy
    chosen, finite = ids.tolist(), torch.isfinite(best).tolist()
    drawn: list[tuple[int, torch.Tensor]] = []
    for row, wish in enumerate(wishes):
        sampling = wish.sampling
        if not finite[row] or (sampling.temperature == 0 and sampling.repetition_penalty == 1):
            continue
        scores = logits[row].float()
        if sampling.repetition_penalty != 1:
            scores = _penalised(scores, wish)
        if sampling.temperature > 0:
            drawn.append((row, scores))
        else:
            chosen[row] = int(scores.argmax())
    for (row, _), token in zip(
        drawn, _drawn([scores for _, scores in drawn], [wishes[r] for r, _ in drawn]), strict=True
    ):
        chosen[row] = token
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


def _drawn(rows: list[torch.Tensor], wishes: list[Wish]) -> list[int]:
    """On a CPU one after the other, so that no neighbour changes a bit; on a GPU each operator for all of them."""
    if rows and rows[0].device.type != "cpu":
        return draw_all(torch.stack(rows), wishes)
    return [draw(row, wish) for row, wish in zip(rows, wishes, strict=True)]


def _penalised(row: torch.Tensor, wish: Wish) -> torch.Tensor:
    """Keskar et al. (arXiv 1909.05858): seen ids' logits divided by the penalty where positive, else multiplied."""
    seen = torch.tensor(sorted({token for token in wish.seen if token >= 0}), device=row.device)
    if not len(seen):
        return row
    values = row[seen]
    penalty = wish.sampling.repetition_penalty
    return row.index_copy(0, seen, torch.where(values > 0, values / penalty, values * penalty))


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
