"""Who waits, counted from other threads than the engine's."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from server.engine.queues import Queues
from tests.server.engine.test_accounting import sequence


def test_any_thread_may_ask_how_many_wait() -> None:
    """While the engine's own thread adds and removes groups."""
    queues = Queues()
    counted: list[int] = []
    over = threading.Event()

    def count() -> None:
        while not over.is_set():
            counted.append(len(queues))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(count) for _ in range(2)]
            for _ in range(30):
                some = [sequence(group=str(number)) for number in range(100)]
                for one in some:
                    queues.add(one)
                for one in some:
                    queues.remove(one)
            over.set()
            for thread in asking:
                thread.result()
    finally:
        over.set()
        sys.setswitchinterval(before)
    assert len(queues) == 0
    assert max(counted) > 50
