"""When a request begins that has a place in the queue."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from server.api.leaving import Answering
from server.api.turns import InTurn
from server.engine.admission import Place
from server.lifecycle import Lifecycle
from server.place import PLACE
from tests.server.site import Site

MANY = 5
HAS_PLACE = {PLACE: Place(lambda: None)}


class Turns:
    """Numbers the turns of the running loop."""

    def __init__(self) -> None:
        self.number = 0
        asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self.number += 1
        asyncio.get_running_loop().call_soon(self._tick)


async def nothing(*_: Any) -> Any:
    """Neither says nor hears anything."""


@pytest.mark.parametrize(("place", "wanted"), [(HAS_PLACE, MANY), ({}, 1)])
async def test_of_those_who_come_for_the_engine_one_begins_in_a_turn_of_the_loop(
    place: dict[str, Any], wanted: int
) -> None:
    """In the order they came; who comes for something else waits for nobody."""
    begun: list[tuple[int, int]] = []
    turns = Turns()

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        begun.append((scope["number"], turns.number))

    in_turn = InTurn(app)
    await asyncio.gather(*(in_turn({**place, "number": number}, nothing, nothing) for number in range(MANY)))
    assert [number for number, _ in begun] == list(range(MANY))
    assert len({turn for _, turn in begun}) == wanted


async def test_who_leaves_before_its_turn_holds_up_nobody() -> None:
    """The next one begins."""
    begun: list[int] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        begun.append(scope["number"])
        if scope["number"] == 0:
            asyncio.get_running_loop().call_soon(came[2].cancel)  # it waits by then

    in_turn = InTurn(app)
    came = [asyncio.create_task(in_turn({**HAS_PLACE, "number": n}, nothing, nothing)) for n in range(MANY)]
    await asyncio.wait(came)
    assert begun == [0, 1, 3, 4]


async def test_the_end_waits_for_who_has_not_begun() -> None:
    """It is being answered from the moment it is there."""
    lifecycle, counted = Lifecycle(), list[int]()

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        counted.append(len(lifecycle.running))

    answering = Answering(InTurn(app), lifecycle)
    await asyncio.gather(*(answering(dict(HAS_PLACE), nothing, nothing) for _ in range(MANY)))
    assert counted == [1, 4, 3, 2, 1], "the first began before the others were there"


def test_a_server_has_them_behind_who_counts(site: Site) -> None:
    """The order of what a request goes through."""
    layers: list[type] = []
    app: Any = site.app
    while (app := getattr(app, "app", None)) is not None:
        layers.append(type(app))
    assert layers[1:3] == [Answering, InTurn]
