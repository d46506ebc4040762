"""Whether the harness heard the same from the server as from its own model. Knows its samples; starts nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST = 1e-3
"""Nats by which a log-likelihood may differ."""
Samples = Sequence[Mapping[str, Any]]


def likelihoods(sample: Mapping[str, Any]) -> list[float]:
    """Of each choice, or of the whole text."""
    found = []
    for response in sample["resps"]:
        value = response[0]
        found.append(float(value[0] if isinstance(value, list) else value))
    return found


def worst(ours: Samples, theirs: Samples) -> float:
    """The largest difference of two log-likelihoods of one row and choice, in nats. Raises ValueError for other rows."""
    ours, theirs = _ordered(ours), _ordered(theirs)
    if not ours or [one["doc"] for one in ours] != [one["doc"] for one in theirs]:
        raise ValueError("the two runs are not of the same rows")
    pairs = [
        (a, b)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(likelihoods(one), likelihoods(other), strict=True)
    ]
    return max(abs(a - b) if a == a and b == b else float("inf") for a, b in pairs)  # noqa: PLR0124 - NaN


def unlike(task: str, difference: float) -> list[str]:
    """The fault, if it is one."""
    if difference <= MOST:
        return []
    return [f"{task}: a log-likelihood differs by {difference:.3g} nats, more than {MOST}"]


def texts(samples: Samples) -> list[str]:
    """What was generated, row by row."""
    return [str(sample["resps"][0][0]) for sample in _ordered(samples)]


def unequal(what: str, ours: Sequence[Any], theirs: Sequence[Any]) -> list[str]:
    """A fault for each row that differs, and one when there are no rows."""
    if not ours or len(ours) != len(theirs):
        return [f"{what}: {len(ours)} rows against {len(theirs)}"]
    return [f"{what}: row {row} differs" for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]


def _ordered(samples: Samples) -> list[Mapping[str, Any]]:
    return sorted(samples, key=lambda sample: int(sample["doc_id"]))
