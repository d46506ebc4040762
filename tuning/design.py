"""Prompt design: instructions and exemplars from the data, nothing learnt (Brown et al., arXiv 2005.14165).

Of a few draws of exemplars the one that does best on held-out rows is kept. The result is a template of kind text.
"""

import random
from collections.abc import Sequence

from prompt_store.template import PART, Tokenize
from tuning.examples import Example

SEPARATOR = "\n\n"


def literal(text: str) -> str:
    """Text as a template says it."""
    return text.replace("{", "{{").replace("}", "}}")


def shown(line: str, example: Example, delimiter: str) -> str:
    """One exemplar: the line that asks, filled in and answered."""
    filled = PART.sub(lambda part: literal(example.inputs[part["field"]]) if part["field"] else part[0], line)
    return filled + delimiter + literal(example.target)


def is_plain(example: Example, tokenize: Tokenize) -> bool:
    """Whether no text of it reads as a special token, which a template's literals may hold and data may not."""
    return all(tokenize(text, True) == tokenize(text, False) for text in (*example.inputs.values(), example.target))


def exemplars(train: Sequence[Example], labels: Sequence[str] | None, count: int, rng: random.Random) -> list[Example]:
    """`count` rows in random order; with labels in turn, each as often as any other."""
    if labels is None:
        return rng.sample(train, min(count, len(train)))
    by_label = {label: [one for one in train if one.target == label] for label in labels}
    order = [label for label in labels if by_label[label]]
    rng.shuffle(order)
    found = [rng.choice(by_label[order[number % len(order)]]) for number in range(count if order else 0)]
    rng.shuffle(found)
    return found


def designed(instructions: str, line: str, chosen: Sequence[Example], delimiter: str) -> str:
    """The template: instructions, exemplars, and the line to be answered; `line` is a template without slots."""
    told = [literal(instructions)] if instructions else []
    return SEPARATOR.join([*told, *(shown(line, one, delimiter) for one in chosen), line])
