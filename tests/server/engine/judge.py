"""Whether an answer is right: every id of it against transformers alone, fed the same ids, and a plain sampler.

An id that two float32 roundings could decide either way is a tie: recognised by its distance, and counted.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from server.engine.draws import uniform
from server.engine.request import Event, Failed, Finished, Request, Sampling, Scored, TokenEvent
from tests.server.engine import oracle
from tests.server.engine.matrix import RELATIVE, TOLERANCE

Row = npt.NDArray[np.float64]
FAULTS = ("internal", "out_of_memory")
"""How a request ends whose step has failed."""


@dataclass(slots=True)
class Verdict:
    """`wrong` says what is; `ties` lists (index, distance) of ids that rounding may decide; `counts` what was seen."""

    wrong: list[str] = field(default_factory=list)
    ties: list[tuple[int, float]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def claim(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)


class Due(NamedTuple):
    """How a generation is to end, and whether somebody cancelled it."""

    reason: str
    ids: int
    cancelled: bool


def judge(  # noqa: PLR0913 - what happened to it, by name
    model: PreTrainedModel,
    request: Request,
    events: Sequence[Event],
    eos_ids: frozenset[int],
    *,
    cancelled: bool,
    faulty: bool = False,
) -> Verdict:
    """All of a request's events, whatever came after its terminal one too. `faulty`: its steps were made to fail."""
    verdict = Verdict()
    ends = [event for event in events if not isinstance(event, TokenEvent)]
    verdict.claim(len(ends) == 1, f"{len(ends)} terminal events")
    if len(ends) != 1:
        return verdict
    verdict.claim(events[-1] is ends[0], "an event after the terminal one")
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    verdict.claim([event.index for event in tokens] == list(range(len(tokens))), "indices are not 0, 1, 2 ...")
    ids = [event.id for event in tokens]
    stops = () if request.sampling.ignore_eos else [at for at, token in enumerate(ids, 1) if token in eos_ids]
    due = Due("eos", stops[0], cancelled) if stops else Due("length", request.sampling.max_new_tokens, cancelled)
    if faulty and isinstance(ends[0], Failed) and ends[0].code in FAULTS:
        verdict.counts[ends[0].code] += 1
    else:
        _judge_end(verdict, request, ends[0], len(ids), due)
    if isinstance(ends[0], Scored):
        _judge_scores(verdict, model, request, ends[0])
    if tokens:
        _judge_tokens(verdict, model, request, tokens)
    return verdict


def _judge_end(verdict: Verdict, request: Request, end: Event, count: int, due: Due) -> None:
    """The reason is the one that the ids and the settings give."""
    verdict.counts[end.reason if isinstance(end, Finished) else end.code if isinstance(end, Failed) else "scored"] += 1
    if isinstance(end, Finished) and end.reason == "cancelled":
        verdict.claim(due.cancelled, "nobody cancelled it")
        verdict.claim(due.reason == "length" and count < due.ids, "cancelled after its last id")
    elif request.deadline is not None:
        verdict.claim(isinstance(end, Failed) and end.code == "timeout" and not count, f"it was too late, not {end}")
    elif request.continuations:
        verdict.claim(isinstance(end, Scored) and not count, f"scoring ended as {end}")
    else:
        got = (end.reason if isinstance(end, Finished) else str(end), count)
        verdict.claim(got == (due.reason, due.ids), f"ended as {got}, not {due}")
    if isinstance(end, Finished | Scored):
        most = sum(1 for token in request.ids[:-1] if token >= 0)
        verdict.claim(0 <= end.cached_tokens <= most, f"{end.cached_tokens} cached tokens of {most}")


def _judge_scores(verdict: Verdict, model: PreTrainedModel, request: Request, end: Scored) -> None:
    verdict.claim(len(end.logprobs) == len(request.continuations), "another number of scores")
    for at, (label, got) in enumerate(zip(request.continuations, end.logprobs, strict=False)):
        rows = oracle.logits_after(model, request.prompt, (*request.ids, *label[:-1]), len(label))
        logs = torch.log_softmax(rows.double(), -1)
        wanted = sum(float(logs[step, token]) for step, token in enumerate(label))
        limit = 2 * len(label) * _rounding(rows)
        verdict.claim(abs(got - wanted) <= limit, f"score {at} is {got:.6f}, not {wanted:.6f}")


def _judge_tokens(verdict: Verdict, model: PreTrainedModel, request: Request, tokens: list[TokenEvent]) -> None:
    ids = [event.id for event in tokens]
    rows = oracle.logits_after(model, request.prompt, (*request.ids, *ids[:-1]), len(ids))
    logs, rounding = torch.log_softmax(rows.double(), -1), _rounding(rows)
    verdict.counts["ids"] += len(ids)
    for at, event in enumerate(tokens):
        distance = distance_of(rows[at].double().numpy(), request.sampling, (*request.ids, *ids[:at]), at, event.id)
        if 0 < distance <= 2 * rounding:
            verdict.ties.append((at, distance))
        verdict.claim(distance <= 2 * rounding, f"id {at} is {event.id}, {distance:.3g} away from being chosen")
        _judge_logprobs(verdict, request.sampling, event, logs[at], 2 * rounding)


def _judge_logprobs(verdict: Verdict, sampling: Sampling, event: TokenEvent, logs: torch.Tensor, limit: float) -> None:
    if sampling.logprobs is None:
        verdict.claim(event.logprob is None and not event.top, "logprobs that nobody asked for")
        return
    verdict.claim(
        event.logprob is not None and abs(event.logprob - float(logs[event.id])) <= limit,
        f"id {event.index} has logprob {event.logprob}, not {float(logs[event.id]):.6f}",
    )
    best = logs.topk(sampling.logprobs).values.tolist() if sampling.logprobs else []
    close = len(event.top) == len(best) and all(
        abs(log - wanted) <= limit and abs(log - float(logs[token])) <= limit
        for (token, log), wanted in zip(event.top, best, strict=True)
    )
    verdict.claim(close, f"id {event.index} has other best ids")


def _rounding(rows: torch.Tensor) -> float:
    """What two float32 passes may differ by in a logit."""
    return max(TOLERANCE, RELATIVE * float(rows.abs().max()))


def distance_of(row: Row, sampling: Sampling, seen: Sequence[int], step: int, token: int) -> float:
    """By how much the logits would have to be other ones for `token` to be chosen; 0 when it is."""
    scores = _penalised(row, sampling.repetition_penalty, seen)
    if sampling.temperature == 0:
        return float(scores.max() - scores[token])
    found = _distance(scores, sampling, step, token)
    for others, moved in _moved(scores, sampling) if found else ():
        found = min(found, max(TOLERANCE, _distance(others, moved, step, token)))
    return found


def _moved(scores: Row, sampling: Sampling) -> Iterator[tuple[Row, Sampling]]:
    """The same up to rounding, where that takes one id more or less into top-p or min-p, or another into top-k."""
    for off in (1 - TOLERANCE, 1 + TOLERANCE):
        if sampling.top_p < 1:
            yield scores, replace(sampling, top_p=sampling.top_p * off)
        if sampling.min_p > 0:
            yield scores, replace(sampling, min_p=sampling.min_p * off)
    if 0 < sampling.top_k < len(scores):
        last, next_one = np.argsort(-scores, kind="stable")[sampling.top_k - 1 : sampling.top_k + 1]
        if scores[last] - scores[next_one] <= TOLERANCE:
            swapped = scores.copy()
            swapped[[last, next_one]] = scores[[next_one, last]]
            yield swapped, sampling


def _penalised(row: Row, penalty: float, seen: Sequence[int]) -> Row:
    scores = row.copy()
    for token in {token for token in seen if token >= 0}:
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    return scores


def _distance(scores: Row, sampling: Sampling, step: int, token: int) -> float:
    """In logits: how far the drawn point lies from the id's share of the probability, times the temperature."""
    scaled = (scores - scores.max()) / sampling.temperature
    cut = sampling.top_k > 0 or sampling.top_p < 1
    order = np.argsort(-scaled, kind="stable") if cut else np.arange(len(scaled))
    weights = np.exp(scaled[order])
    if sampling.top_k > 0:
        weights[sampling.top_k :] = 0
    if sampling.top_p < 1:
        weights[np.cumsum(weights) - weights >= sampling.top_p * weights.sum()] = 0
    weights[weights < sampling.min_p * weights.max()] = 0
    ends = np.cumsum(weights)
    point = uniform(sampling.seed, sampling.choice, step) * ends[-1]
    drawn = int(np.searchsorted(ends, point, side="right"))
    at = int(np.flatnonzero(order == token)[0])
    if at == drawn:
        return 0.0
    among_equals = float(abs(scores[order[drawn]] - scores[token])) if cut else np.inf  # sorted the other way round
    if weights[at] == 0:
        return among_equals
    below, above = ends[at] - weights[at], ends[at]
    return min(among_equals, float(max(below - point, point - above) / ends[-1] * sampling.temperature))
