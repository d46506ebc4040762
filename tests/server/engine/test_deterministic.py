"""In deterministic mode no neighbour changes a bit of a request's logits; without it they do, in the last bits."""

import itertools
import queue
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Prompt, Request, Sampling, TokenEvent
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle

_serial = itertools.count()
CROWD = 24
"""More than run at once, and three of each kind."""


@contextmanager
def running(base: BaseModel, *, deterministic: bool, threads: int = 1) -> Iterator[Engine]:
    engine = Engine(
        base, EngineSettings(max_batch=16, max_batch_tokens=48, threads=threads, deterministic=deterministic)
    )
    engine.start()
    yield engine
    engine.close()


def prompts(base: BaseModel) -> list[Prompt | None]:
    """None, rows in front, rows behind a field, a deep prefix, two adapters of different length."""
    shape = base.shape
    generator = torch.Generator().manual_seed(1)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    found: list[Prompt | None] = [None]
    for length in (3, 20):
        head = (*(~i for i in range(length)), 0)
        found.append(Prompt(f"rows/{length}", models.rows(length, shape.hidden, length).numpy(), head))
        deep = draw(shape.layers, 2, shape.kv_heads, length, shape.head_dim)
        found.append(Prompt(f"deep/{length}", None, head, deep.numpy()))
        if base.no_adapters is None:
            side = draw(2, length, shape.hidden), 8 * draw(2, 1)
            found.append(Prompt(f"side/{length}", None, (0,), adapter=(side[0].numpy(), side[1].numpy())))
    found.append(Prompt("behind", models.rows(4, shape.hidden, 9).numpy(), (0,)))
    return found


def crowd(base: BaseModel, count: int) -> list[Request]:
    """Of every kind, of lengths that end in the middle of a grain; all ask for every id's logprob."""
    draw, kinds = random.Random(5), prompts(base)
    found = []
    for number in range(count):
        soft = kinds[number % len(kinds)]
        own = tuple(draw.randrange(3, 380) for _ in range(draw.choice((2, 7, 31, 33, 70))))
        if soft is not None and soft.digest == "behind":
            own = (*own, ~0, ~1, ~2, ~3, 7)
        wish = Sampling(max_new_tokens=draw.randrange(2, 12), ignore_eos=True, logprobs=200)
        found.append(Request(next(_serial), (*(soft.head if soft else (0,)), *own), wish, soft))
    return found


def bits(events: list[Event]) -> list[tuple[int, tuple[tuple[int, float], ...]]]:
    """The chosen ids and the 200 best ids' logprobs, every bit of them."""
    return [(event.id, event.top) for event in events if isinstance(event, TokenEvent)]


@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen3"])
def test_logits_are_the_same_bits_alone_and_in_a_crowd(tmp_path: Path, family: str, dtype: str, native: bool) -> None:
    """Whoever else runs, of whatever kind and length, and in whatever order they come."""
    base = BaseModel.load(models.save(tmp_path / "base", family), device="cpu", dtype=dtype, native=native)
    requests = crowd(base, CROWD)
    with running(base, deterministic=True) as engine:
        alone = [bits(oracle.ask(engine, request)) for request in requests]
        assert [bits(found) for found in oracle.ask_all(engine, requests)] == alone
        shuffled = random.Random(6).sample(range(CROWD), CROWD)
        found = oracle.ask_all(engine, [requests[index] for index in shuffled])
        assert [bits(one) for one in found] == [alone[index] for index in shuffled]


def test_a_second_thread_changes_nothing_either(tmp_path: Path) -> None:
    """How the rows of a pass are shared out between threads is fixed too."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="bfloat16")
    requests = crowd(base, 20)
    with running(base, deterministic=True, threads=2) as engine:
        alone = [bits(oracle.ask(engine, request)) for request in requests]
        assert [bits(found) for found in oracle.ask_all(engine, requests)] == alone


def test_scores_are_the_same_bits_alone_and_in_a_crowd(tmp_path: Path) -> None:
    """A continuation is scored on its own; one too long for a pass that others decode in is refused."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32")
    labels = ((5, 6, 7), (8,), (9, 10, 11, 12, 13), (5, 9))
    question = Request("score", (0, 40, 41, 42), continuations=labels)
    with running(base, deterministic=True) as engine:
        alone = oracle.scores_of(oracle.ask(engine, question))
        assert oracle.scores_of(oracle.ask_all(engine, [*crowd(base, 30), question])[-1]) == alone
        with pytest.raises(ValueError, match="a continuation may have 32 ids"):
            engine.submit(Request("long", (0,), continuations=((5,) * 33,)), queue.SimpleQueue())


def test_without_it_a_crowd_changes_bits(tmp_path: Path) -> None:
    """Else it would not be worth its price. In torch's operators: native attention minds no neighbour in any mode."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32", native=False)
    requests = crowd(base, 40)
    with running(base, deterministic=False) as engine:
        alone = [bits(oracle.ask(engine, request)) for request in requests]
        assert [bits(found) for found in oracle.ask_all(engine, requests)] != alone
