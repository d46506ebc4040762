"""Several who work on one place at once, in an order that a test decides: a call of one, then a call of another."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from prompt_store.objects import Objects

PATIENCE = 30.0
"""Seconds until a turn that nobody takes is a failure."""


class Turns:
    """Whose call may go through next: `order` names them, over and over the last; who has ended is passed over."""

    def __init__(self, objects: Objects, order: Iterable[str]) -> None:
        """Nobody is at work yet."""
        self._objects = objects
        self._order = iter(order)
        self._condition = threading.Condition()
        self._working: set[str] = set()
        self._next: str | None = None
        self.failures: list[BaseException] = []

    def run(self, **works: Callable[[Objects], object]) -> None:
        """Each of `works` with its own view of the place, until all are done. Raises what one of them raised."""
        self._working = set(works)
        self._choose()
        threads = [threading.Thread(target=self._work, args=item) for item in works.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def _work(self, name: str, work: Callable[[Objects], object]) -> None:
        try:
            work(cast("Objects", Seen(self, self._objects, name)))
        except BaseException as error:  # noqa: BLE001 - told by `run`
            self.failures.append(error)
        finally:
            with self._condition:
                self._working.discard(name)
                self._choose()

    def take(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a call when it is the turn of `name`."""
        with self._condition:
            assert self._condition.wait_for(lambda: self._next == name, PATIENCE)
            try:
                return call()
            finally:
                self._choose()

    def _choose(self) -> None:
        self._next = next((name for name in self._order if name in self._working), None)
        if self._next is None:  # the order is at its end: whoever is left, one after the other
            self._next = min(self._working, default=None)
        self._condition_notify()

    def _condition_notify(self) -> None:
        with self._condition:
            self._condition.notify_all()


class Seen:
    """The place as one of them sees it: every call waits for its turn, and a listing is made whole in one."""

    parallel = 1
    lateness = 0.0

    def __init__(self, turns: Turns, objects: Objects, name: str) -> None:
        """See Turns."""
        self._turns = turns
        self._objects = objects
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            def made() -> Any:
                answer = getattr(self._objects, method)(*arguments, **options)
                return iter(list(answer)) if isinstance(answer, Iterator) else answer

            return self._turns.take(self._name, made)

        return call
