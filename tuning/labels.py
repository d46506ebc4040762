"""Which targets are a closed set, and so the task's labels.

Knows examples; not tokens or models.
"""

from collections.abc import Sequence

from tuning.examples import DataError, Example

AUTO_LABELS = 100
AUTO_REPEATS = 5
"""`auto` takes the targets for labels when there are at most AUTO_LABELS, each seen AUTO_REPEATS times on average."""


def find(examples: Sequence[Example], choice: str | Sequence[str]) -> tuple[str, ...] | None:
    """The labels for `auto`, `none`, `a,b,c` or a list of them: in the order given, else sorted. Raises DataError."""
    if choice == "none":
        return None
    if choice == "auto":
        distinct = sorted({example.target for example in examples})
        closed = 2 <= len(distinct) <= AUTO_LABELS and len(examples) >= AUTO_REPEATS * len(distinct)
        return tuple(distinct) if closed else None
    named = choice.split(",") if isinstance(choice, str) else choice
    labels = tuple(dict.fromkeys(label for label in named if label))
    if len(labels) < 2:
        raise DataError("at least two labels are needed")
    check(examples, labels)
    return labels


def notes(examples: Sequence[Example], choice: str | Sequence[str]) -> str | None:
    """What is odd about the targets, though it can be learnt."""
    if choice == "auto" and len(examples) > 1 and len({one.target for one in examples}) == 1:
        return "every row has the same target: it is learnt as free text"
    return None


def check(examples: Sequence[Example], labels: Sequence[str]) -> None:
    """Raises DataError naming every line whose target is none of the labels."""
    known = set(labels)
    bad = [(one.line, "the target is none of the labels") for one in examples if one.target not in known]
    if bad:
        raise DataError(f"{len(bad)} of {len(examples)} rows have a target outside the labels", bad)
