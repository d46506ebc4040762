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


def differences(ours: Samples, theirs: Samples) -> list[tuple[float, float]]:
    """Of every row and choice: how far apart, and what it is, in nats. Raises ValueError for other rows."""
    ours, theirs = _ordered(ours), _ordered(theirs)
    if not ours or [one["doc"] for one in ours] != [one["doc"] for one in theirs]:
        raise ValueError("the two runs are not of the same rows")
    return [
        (abs(a - b), b)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(likelihoods(one), likelihoods(other), strict=True)
    ]


def unlike(task: str, found: Sequence[tuple[float, float]]) -> list[str]:
    """A fault for each that is too far apart; what is no number is."""
    return [f"{task}: {what:.6g} nats differ by {apart:.3g}" for apart, what in found if not apart <= MOST]


def texts(samples: Samples) -> list[str]:
    """What was generated, row by row."""
    return [str(sample["resps"][0][0]) for sample in _ordered(samples)]


def unequal(what: str, ours: Sequence[Any], theirs: Sequence[Any]) -> list[str]:
    """A fault for each row that differs, and one when there are no rows."""
    if not ours or len(ours) != len(theirs):
        return [f"{what}: {len(ours)} rows against {len(theirs)}"]
    return [
        f"{what}: row {row} differs" for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]
    ]


def _ordered(samples: Samples) -> list[Mapping[str, Any]]:
    return sorted(samples, key=lambda sample: int(sample["doc_id"]))
