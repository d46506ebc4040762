"""What atheris runs on every input it finds; started by `python -m tests.attacks.header`, in an environment of its own.

Ends with an exception, and with libFuzzer's own report, on the first input that is read otherwise than by the library.
"""

import json
import sys
from dataclasses import asdict
from itertools import count
from random import Random

import atheris

with atheris.instrument_imports(include=["prompt_store.container"]):
    import prompt_store.container  # noqa: F401 - imported here for its instrumentation

from tests.attacks.header.agreement import Tally
from tests.attacks.header.mutations import drawn, mutated

TALLY = Tally()
NUMBERS = count(1)
TOLD_EVERY = 1000
"""Inputs. libFuzzer leaves without a last word, so what was counted is told as it goes."""


def judge(data: bytes) -> None:
    TALLY.judge(data)
    if next(NUMBERS) % TOLD_EVERY == 0:
        sys.stderr.write(f"tally: {json.dumps(asdict(TALLY))}\n")


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Mostly what knows the format, on the input or on a file drawn anew; a third of the time libFuzzer's own."""
    draw = Random(seed)
    chance = draw.random()
    if chance < 2 / 3:
        if chance < 1 / 3:
            data = drawn(draw)
        return (data if chance < 1 / 6 else mutated(data, draw))[:max_size]
    found: bytes = atheris.Mutate(data, max_size)
    return found


def main() -> None:
    atheris.Setup(sys.argv, judge, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
