"""Names of cases, from which everything else is drawn; as many as there is time for. Knows no part."""

import threading
import time
from collections.abc import Iterator
from itertools import count, islice


def cases(seed: str, seconds: float, stop: threading.Event) -> Iterator[str]:
    """`seed-0`, `seed-1` ... The time begins with the first."""
    ends = time.monotonic() + seconds
    for number in count():
        if stop.is_set() or time.monotonic() >= ends:
            return
        yield f"{seed}-{number}"


def some(names: Iterator[str], most: int) -> Iterator[list[str]]:
    """Many at a time."""
    while found := list(islice(names, most)):
        yield found
