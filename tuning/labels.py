"""Which targets are a closed set, and so the task's labels.

Knows examples; not tokens or models.
"""

from collections.abc import Iterator, Sequence

from tuning.examples import DataError, Example

AUTO_LABELS = 100
AUTO_REPEATS = 5
"""`auto` takes the targets for labels when there are at most AUTO_LABELS, each seen AUTO_REPEATS times on average."""

LABEL_WORDS = 3
"""A target of more is no label's name."""


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


def notes(
    train: Sequence[Example],
    held_out: Sequence[Example],
    choice: str | Sequence[str],
    labels: tuple[str, ...] | None,
) -> Iterator[str]:
    """What is odd about the rows, though it can be learnt. `labels` are what was found for the `choice`."""
    examples = [*train, *held_out]
    if choice == "auto" and labels is None:
        yield from _unlabelled({one.target for one in examples}, len(examples))
    if labels is not None:
        seen = len({one.target for one in held_out})
        if seen < len(labels):
            yield (
                f"{_rows(len(held_out))} held out, with {seen} of {len(labels)} labels: their figures say little, and"
                " they choose what is kept; more rows, or held-out rows of your own, would tell more"
            )


def _unlabelled(targets: set[str], rows: int) -> Iterator[str]:
    if len(targets) == 1 and rows > 1:
        yield "every row has the same target: it is learnt as free text"
    elif (
        len(targets) <= AUTO_LABELS and all(len(one.split()) <= LABEL_WORDS for one in targets) and len(targets) < rows
    ):
        yield (
            f"{len(targets)} short targets in {_rows(rows)} are learnt as free text, since labels would be seen"
            f" {AUTO_REPEATS} times each: name them as labels if they are"
        )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def check(examples: Sequence[Example], labels: Sequence[str]) -> None:
    """Raises DataError naming every line whose target is none of the labels."""
    known = set(labels)
    bad = [(one.line, "the target is none of the labels") for one in examples if one.target not in known]
    if bad:
        raise DataError(f"{len(bad)} of {len(examples)} rows have a target outside the labels", bad)
