"""Many requests in flight, their answers in the order of the requests. Knows threads; neither files nor a server."""

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
AHEAD = 4
"""For each request in flight: answers that wait for an earlier one, before no more is asked."""


class _Writing(Generic[Item]):
    """A thread that hands each answer on as soon as all earlier ones are; the first failure ends it."""

    def __init__(self, write: Callable[[Item, Any], None], longest: int) -> None:
        self._write = write
        self._queue: queue.Queue[tuple[Item, Future[Any]] | None] = queue.Queue(longest)
        self._thread = threading.Thread(target=self._run, name="writing")
        self.failed: BaseException | None = None
        self._thread.start()

    def put(self, item: Item, answer: "Future[Any]") -> None:
        self._queue.put((item, answer))

    def end(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (given := self._queue.get()) is not None:
            item, answer = given
            if self.failed is not None:
                answer.cancel()  # read on, so that whoever puts never waits for ever
                continue
            try:
                self._write(item, answer.result())
            except Exception as error:  # noqa: BLE001 - told to whoever began this
                self.failed = error


class _Asking(Generic[Item]):
    """`ask`, until it has failed once: what waits for a thread then is not asked any more."""

    def __init__(self, ask: Callable[[Item], Any]) -> None:
        self._ask = ask
        self.failed = False

    def __call__(self, item: Item) -> Any:
        if self.failed:
            raise CancelledError
        try:
            return self._ask(item)
        except BaseException:
            self.failed = True
            raise


def fly(
    items: Iterable[Item], ask: Callable[[Item], Any], write: Callable[[Item, Any], None], concurrency: int
) -> None:
    """`ask` of every item, so many at a time, each in a thread; `write` in the items' order, in one thread.

    Raises what the first of them raised, once what is in flight has come back: every answer before it is written.
    KeyboardInterrupt in between writes what is in flight and begins no more.
    """
    asking, writing = _Asking(ask), _Writing(write, AHEAD * concurrency)
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for item in items:
                if asking.failed or writing.failed is not None:
                    break
                writing.put(item, pool.submit(asking, item))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            writing.end()
    if writing.failed is not None:
        raise writing.failed
