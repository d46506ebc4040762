"""Soft prompts of every kind for the engine's tests, drawn from a seed, loud enough that swapping two is heard."""

import random

import torch

from server.engine.checkpoint import Shape
from server.engine.model import BaseModel
from server.engine.request import Prompt
from tests import models

BOS = 0
KINDS = ("bare", "text", "front", "behind", "prefix", "adapter")
"""The bare model; literals that are shared; rows in front; rows behind a field; a deep prefix; an adapter."""
ROWS = 4
"""Of kind behind: two rows after the field and two at the end."""


def kinds_of(base: BaseModel) -> tuple[str, ...]:
    """The kinds that a base serves."""
    return KINDS if base.no_adapters is None else KINDS[:-1]


def text(seed: int, length: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).randrange(3, models.VOCABULARY) for _ in range(length))


def front(hidden: int, length: int, seed: int, head: tuple[int, ...] = ()) -> Prompt:
    """Rows, BOS and `head` are shared."""
    rows = models.rows(length, hidden, seed)
    return Prompt(f"{seed}/{length}/{head}", rows.numpy(), (*_rows(length), BOS, *head))


def prefix(shape: Shape, length: int, seed: int, head: tuple[int, ...] = ()) -> Prompt:
    """Keys and values that no text would give; BOS and `head` behind them are shared too."""
    size = (shape.layers, 2, shape.kv_heads, length, shape.head_dim)
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(2000 + seed))
    return Prompt(f"deep/{seed}/{length}/{head}", None, (*_rows(length), BOS, *head), drawn.numpy())


def adapter(hidden: int, layers: int, length: int, gates: int, seed: int, head: tuple[int, ...] = ()) -> Prompt:  # noqa: PLR0913, PLR0917 - its sizes
    """Gates wide enough to be heard, one for all heads or one each."""
    generator = torch.Generator().manual_seed(3000 + seed)
    prompts = torch.randn(layers, length, hidden, generator=generator)
    gate = 8 * torch.randn(layers, gates, generator=generator)
    return Prompt(f"side/{seed}", None, (BOS, *head), adapter=(prompts.numpy(), gate.numpy()))


def of_kind(kind: str, shape: Shape, seed: int) -> Prompt | None:
    """One of a kind, its sizes and its literals the seed's; None is the bare model."""
    draw = random.Random(seed)
    length, head = draw.randint(1, 12), text(seed, draw.choice((0, 0, 3, 9)))
    if kind == "bare":
        return None
    if kind == "text":
        return Prompt(f"text/{seed}", None, (BOS, *text(seed, draw.randint(1, 14))))
    if kind == "front":
        return front(shape.hidden, length, seed, head)
    if kind == "behind":
        return Prompt(f"behind/{seed}", models.rows(ROWS, shape.hidden, seed).numpy(), (BOS, *head))
    if kind == "prefix":
        return prefix(shape, length, seed, head)
    layers, gates = draw.randint(1, shape.layers), draw.choice((1, shape.heads))
    return adapter(shape.hidden, layers, length, gates, seed, head)


def ids_of(kind: str, prompt: Prompt | None, own: tuple[int, ...]) -> tuple[int, ...]:
    """A request's ids: the head, the input `own`, and for kind behind its rows around the input's second half."""
    head = (BOS,) if prompt is None else prompt.head
    if kind != "behind":
        return (*head, *own)
    middle = len(own) // 2
    return (*head, *own[:middle], ~0, ~1, *own[middle:], ~2, ~3)


def _rows(length: int) -> tuple[int, ...]:
    return tuple(~i for i in range(length))
