"""What request number n of a soak is, drawn from the seed and n alone: the same whoever asks, and after a restart.

Knows the routes and what they may answer; sends nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.soak.bad import BAD
from tests.soak.calls import Call, asking
from tests.soak.changes import CHANGES, POOL

CANCELLED, CHANGED, SPOILT = 0.20, 0.01, 0.05
"""Shares of all requests: those whose client leaves, changes of the store, and bad input."""
LABELLED = ("domain", "intent", "sentiment", "subjectivity")
PACKAGED = (*LABELLED, "intent-design", "dialogue", "restaurant", "summary", "base")
LONG = 200
"""Ids of an answer that is left before its end."""
TEXT = (
    "play some jazz please what is the weather in paris tomorrow book a table for two at seven the food was great "
    "but service slow add this song to my list who wrote that long book about a quiet sea and three small birds"
)
WORDS = TEXT.split()
ASKS, WEIGHTS = ("plain", "stream", "classify", "completions", "batch", "choices"), (30, 25, 15, 16, 7, 7)
LEFT = ("plain", "stream", "completions", "choices")
"""Those that take long enough to be left."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """How a client goes: after so many bytes of its answer or so many seconds, whichever is first.

    `half`: before it has sent all of its request; `reset`: with RST in place of FIN.
    """

    bytes: int
    seconds: float
    half: bool
    reset: bool


@dataclass(frozen=True, slots=True)
class Act:
    """One request; a task that comes and goes is two calls, one after the other."""

    kind: str
    calls: Sequence[Call]
    leaving: Leaving | None = None


Kind = Literal["change", "bad", "left", "asked"]


def act(seed: int, number: int) -> Act:
    """Request `number` of the soak of this seed."""
    draw = Random(f"{seed}-{number}")
    kind: Kind = draw.choices(
        ("change", "bad", "left", "asked"), (CHANGED, SPOILT, CANCELLED, 1 - CHANGED - SPOILT - CANCELLED)
    )[0]
    if kind == "change":
        name = draw.choice([*CHANGES])
        return Act(name, CHANGES[name](draw, f"{seed}-{number}"))
    if kind == "bad":
        name = draw.choice([*BAD])
        return Act(f"bad: {name}", [BAD[name](draw)])
    if kind == "left":
        name = draw.choice(LEFT)
        return Act(f"{name}, left", [_ask(draw, name, LONG)], _leaving(draw))
    name = draw.choices(ASKS, WEIGHTS)[0]
    return Act(name, [_ask(draw, name, draw.randint(1, 8))])


def _leaving(draw: Random) -> Leaving:
    return Leaving(
        bytes=draw.choice((1, 400, 1500, 4000)),
        seconds=draw.uniform(0.0, 0.6),
        half=draw.random() < 0.1,
        reset=draw.random() < 0.5,
    )


def _text(draw: Random) -> str:
    """Mostly short; some long, of which many begin alike."""
    if draw.random() < 0.1:
        return " ".join([TEXT, *draw.choices(WORDS, k=draw.randint(1, 30))])
    return " ".join(draw.choices(WORDS, k=draw.randint(2, 12)))


def _ask(draw: Random, kind: str, most: int) -> Call:
    task = draw.choice(POOL if draw.random() < 0.3 else PACKAGED)
    told: dict[str, Any] = {"max_new_tokens": most, "ignore_eos": most == LONG}
    if draw.random() < 0.3:
        told |= {"temperature": 0.8, "top_p": 0.9, "seed": draw.randint(0, 99)}
    one: dict[str, Any] = {"task": task, "inputs": _text(draw), "parameters": told}
    if kind == "classify":
        return asking("/classify", {"task": draw.choice(LABELLED), "inputs": _text(draw)})
    if kind == "completions":
        body = {"model": task, "max_tokens": most, "ignore_eos": told["ignore_eos"], "temperature": 0}
        return asking("/v1/completions", {**body, "prompt": "", "inputs": one["inputs"], "stream": draw.random() < 0.5})
    if kind == "batch":
        others = [{**one, "task": draw.choice((*PACKAGED, *POOL))} for _ in range(draw.randint(1, 3))]
        return asking("/generate", {"requests": [one, *others]})
    if kind == "choices":
        return asking("/generate", {**one, "parameters": {**told, "n": 2, "logprobs": 2}})
    return asking("/generate_stream" if kind == "stream" else "/generate", one)


def shown(call: Call) -> str:
    """For who looks for it in a log."""
    return json.dumps({"method": call.method, "path": call.path, "body": call.body[:200].decode("latin-1")})
