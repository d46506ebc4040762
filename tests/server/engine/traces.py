"""Random traces for the engine: what is asked of it, in what order, and after how many events; all from one seed."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from server.engine.kv import KVCache
from server.engine.model import BaseModel
from server.engine.request import Prompt, Request, Sampling
from server.engine.settings import EngineSettings
from tests.server.engine import prompts

VERSION = 1000
"""What a task's seed grows by when its soft prompt is replaced."""


@dataclass(frozen=True, slots=True)
class Task:
    """A soft prompt by its kind and seed."""

    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A request of `task` with `length` ids of its own, the last `cut` literals of its head left out.

    The first `shared` of its own are those of document `document`. `labels`: lengths of continuations to score; without
    any it generates. `late`: its time is up at once.
    """

    number: int
    task: Task
    length: int
    cut: int
    sampling: Sampling
    labels: tuple[int, ...] = ()
    late: bool = False
    document: int = 0
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    number: int


@dataclass(frozen=True, slots=True)
class Load:
    task: Task


@dataclass(frozen=True, slots=True)
class Drop:
    task: Task


Action = Ask | Cancel | Load | Drop


@dataclass(frozen=True, slots=True)
class Moment:
    """`action`, once `after` events have come since the action before it, or when nothing is left to come."""

    after: int
    action: Action


@dataclass(frozen=True, slots=True)
class Trace:
    """`faulty`: its steps are made to fail at random."""

    seed: int
    settings: EngineSettings
    moments: tuple[Moment, ...]
    faulty: bool = False

    @property
    def asks(self) -> list[Ask]:
        return [moment.action for moment in self.moments if isinstance(moment.action, Ask)]


class Workshop:
    """Makes prompts and requests of one base; the same soft prompt is the same object."""

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self._prompts: dict[Task, Prompt | None] = {}

    def prompt(self, task: Task) -> Prompt | None:
        if task not in self._prompts:
            self._prompts[task] = prompts.of_kind(task.kind, self.base.shape, task.seed)
        return self._prompts[task]

    def request(self, ask: Ask) -> Request:
        prompt = self.prompt(ask.task)
        head = None if prompt is None else replace(prompt, head=prompt.head[: len(prompt.head) - ask.cut])
        document = prompts.text(5000 + ask.document, ask.shared)
        own = (*document, *prompts.text(7000 + ask.number, ask.length - ask.shared))
        ids = prompts.ids_of(ask.task.kind, head, own)
        labels = tuple(prompts.text(100 * ask.number + at, length) for at, length in enumerate(ask.labels))
        deadline = time.monotonic() - 1 if ask.late else None
        return Request(ask.number, ids, ask.sampling, prompt, deadline, labels, group=ask.task)


def draw(seed: int, count: int, workshop: Workshop) -> Trace:
    """`count` requests among cancels, loads, drops and replacements, on an engine with little room for anything.

    Their tasks: one of each kind, of those that are learnt at least two.
    """
    found = random.Random(seed)
    settings = _settings(found, workshop.base)
    kinds = prompts.kinds_of(workshop.base)
    tasks = [Task(kind, found.randrange(VERSION)) for kind in (*kinds, *kinds[2:], kinds[-1])]
    moments: list[Moment] = []
    for number in range(1, count + 1):
        around = _around(found, tasks, number)
        moments.extend(Moment(found.choice((0, 0, 0, 1, 2, 5)), action) for action in around)
        ask = _ask(found, number, found.choice(tasks), workshop, settings.max_total_tokens or 0)
        moments.append(Moment(found.choice((0, 0, 0, 0, 1, 3, 8, 20)), ask))
    return Trace(seed, settings, tuple(moments))


def _settings(found: random.Random, base: BaseModel) -> EngineSettings:
    """Room for 1 to 8 sequences by the K/V budget, for one to all of the soft prompts, passes of a few ids."""
    shape, context = base.shape, found.choice((64, 128, 256))
    slot = context * KVCache.bytes_per_position(shape.layers, shape.kv_heads, shape.head_dim, base.dtype)
    return EngineSettings(
        max_total_tokens=context,
        max_batch_tokens=found.choice((3, 9, 20, 70)),
        max_waiting=found.choice((5, 1000, 1000)),
        max_waiting_tokens=found.choice((500, 10**6, 10**6)),
        kv_budget=slot * found.choice((1, 2, 3, 5, 8)),
        prompt_budget=found.choice((64_000, 120_000, 2**29)),
        text_budget=found.choice((0, 100_000, 2**28)),
        threads=1,
        deterministic=found.random() < 0.1,
    )


def _around(found: random.Random, tasks: list[Task], number: int) -> Iterator[Action]:
    """What happens between two requests: now and then something is cancelled, loaded, dropped or replaced."""
    if found.random() < 0.2:
        yield Cancel(found.randint(max(1, number - 6), number))
    at = found.randrange(len(tasks))
    if found.random() < 0.12:
        yield Load(tasks[at])
    if found.random() < 0.1:
        yield Drop(tasks[at])
    if found.random() < 0.12:
        old, tasks[at] = tasks[at], Task(tasks[at].kind, tasks[at].seed + VERSION)
        yield Load(tasks[at])
        if found.random() < 0.5:
            yield Drop(old)


def _ask(found: random.Random, number: int, task: Task, workshop: Workshop, context: int) -> Ask:
    prompt = workshop.prompt(task)
    literals = 0 if prompt is None else sum(1 for token in prompt.head if token >= 0) - 1
    cut = found.randint(0, literals) if found.random() < 0.15 else 0
    room = context - len(prompts.ids_of(task.kind, prompt, ())) + cut
    labels = tuple(found.choice((1, 1, 2, 3, 8)) for _ in range(found.randint(1, 7))) if found.random() < 0.15 else ()
    new = max(labels) if labels else min(found.choice((1, 2, 6, 12, 12, 30)), room - 1)
    length = found.choice((found.randint(0, 6), found.randint(0, 6), found.randint(6, 30), 80, room - new))
    sampling = replace(_sampling(found), max_new_tokens=new)
    length = min(length, room - new)
    shared = min(length, found.choice((0, 0, 40, 70, 120)))
    late, document = found.random() < 0.03, found.randrange(3)
    return Ask(number, task, length, cut, sampling, labels, late, document, shared)


def _sampling(found: random.Random) -> Sampling:
    penalty, logprobs = found.choice((1.0, 1.0, 1.0, 1.3)), found.choice((None, None, 0, 4))
    ignore_eos, seed = found.random() < 0.5, found.randrange(2**32)
    if found.random() < 0.4:
        return Sampling(repetition_penalty=penalty, logprobs=logprobs, ignore_eos=ignore_eos)
    return Sampling(
        temperature=found.choice((0.3, 1.0, 1.0, 3.0)),
        top_k=found.choice((0, 0, 1, 5, 60)),
        top_p=found.choice((1.0, 1.0, 0.5, 0.95)),
        min_p=found.choice((0.0, 0.0, 0.05)),
        repetition_penalty=penalty,
        seed=seed,
        choice=found.randrange(3),
        logprobs=logprobs,
        ignore_eos=ignore_eos,
    )
