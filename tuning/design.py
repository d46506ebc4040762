"""Prompt design: instructions and exemplars from the data, nothing learnt (Brown et al., arXiv 2005.14165).

Of a few draws of exemplars the one that does best on held-out rows is kept. The result is a template of kind text.
"""

import random
from collections.abc import Sequence

from tuning.examples import Example

SEPARATOR = "\n\n"


def literal(text: str) -> str:
    """Text as a template says it."""
    return text.replace("{", "{{").replace("}", "}}")


def shown(line: str, example: Example, delimiter: str) -> str:
    """One exemplar: the line that asks, filled in and answered."""
    for name, value in example.inputs.items():
        line = line.replace("{" + name + "}", literal(value))
    return line + delimiter + literal(example.target)


def exemplars(train: Sequence[Example], labels: Sequence[str] | None, count: int, rng: random.Random) -> list[Example]:
    """`count` rows in random order; with labels in turn, each as often as any other."""
    if labels is None:
        return rng.sample(train, min(count, len(train)))
    by_label = {label: [one for one in train if one.target == label] for label in labels}
    order = [label for label in labels if by_label[label]]
    rng.shuffle(order)
    found = [rng.choice(by_label[order[number % len(order)]]) for number in range(count)]
    rng.shuffle(found)
    return found


def designed(instructions: str, line: str, chosen: Sequence[Example], delimiter: str) -> str:
    """The template: instructions, exemplars, and the line to be answered; `line` is a template without slots."""
    told = [literal(instructions)] if instructions else []
    return SEPARATOR.join([*told, *(shown(line, one, delimiter) for one in chosen), line])
