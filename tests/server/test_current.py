"""The newest version of a task, in moments that no request can be timed to meet."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from prompt_store.errors import VersionNotVisible
from prompt_store.store import Store
from prompt_store.task import Task
from server.current import Current
from server.engine.admission import Place
from server.engine.settings import Counters, Snapshot
from server.metrics import Meter
from server.place import kept
from server.reach import Reach
from tests.prompt_store.make import ONE

PATIENCE = 10.0


class AtOnce(Reach):
    """Asks the store on the loop: an answer is there when its task has run once. Then somebody else asks."""

    also: list[Callable[[], None]]

    async def ask(self, work: Any, *given: Any) -> Any:  # type: ignore[override]
        while self.also:
            self.also.pop()()
        return work(*given)


@pytest.fixture
def meter() -> Meter:
    return Meter(lambda: Snapshot(0, 0, 0, 0, 0, 0, 0, 0, Counters()), {}, 0)


async def test_who_waits_for_a_version_keeps_no_place(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others come before it, however long it waits."""
    monkeypatch.setattr("server.current.VISIBLE_SECONDS", 0.1)
    left: list[bool] = []
    reach = Reach(Store.open("memory://", 1.0))
    try:
        with kept(Place(lambda: left.append(True))):
            with pytest.raises(VersionNotVisible):
                await Current(reach, meter).arrived("t", 1)
            assert left
    finally:
        await reach.close()


async def asked_between(meter: Meter) -> int:
    """The version that is told to who asks after the answer to another has come and before the loop has said so."""
    reach = AtOnce(Store.open("memory://", 1.0))
    try:
        reach.store.publish("t", ONE, verified=True, op_id="op")
        current = Current(reach, meter)
        late: list[asyncio.Task[Task]] = []
        reach.also = [lambda: late.append(asyncio.create_task(current.newest("t", 0.0)))]
        await current.newest("t", 0.0)
        return (await late[0]).version
    finally:
        await reach.close()


def test_an_answer_that_has_come_is_not_waited_for_again(meter: Meter) -> None:
    """In a thread of its own: a loop that never comes back could not be timed out from inside."""
    found: Future[int] = Future()
    thread = threading.Thread(target=lambda: found.set_result(asyncio.run(asked_between(meter))), daemon=True)
    thread.start()
    assert found.result(PATIENCE) == 1
