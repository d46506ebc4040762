"""Many writers of one store, in several processes; what they mean to do and are told goes into a ledger outside of it.

Whoever starts a crowd decides how it ends. Knows no fault.
"""

import json
import math
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from prompt_store.errors import Corrupt, StoreError, TaskDeleted, TaskNotFound, VersionDeleted, VersionNotFound
from prompt_store.prompt import PromptFile
from prompt_store.store import Store
from tests.faults.ledger import TASKS, Ledger
from tests.prompt_store.make import embeddings

FILES: Sequence[PromptFile] = [embeddings(length, seed=length) for length in (1, 2, 3, 50, 51, 52, 300, 1500)]
"""Some smaller than a block and some of many."""
EVENTS, WEIGHTS = ("publish", "delete", "rollback", "read"), (6, 1, 2, 2)
TOLD_NO = (TaskNotFound, TaskDeleted, VersionDeleted, VersionNotFound)
SECONDS = 30.0
"""For writers whose disk is gone to notice."""


class Work:
    """Processes at work, by their ids, each with the pipe it speaks into."""

    def __init__(self, processes: Mapping[int, int], ledger: Ledger) -> None:
        self.processes = processes
        self._ledger = ledger
        self._deaf_from = math.inf
        self._selector = selectors.DefaultSelector()
        self._rest = dict.fromkeys(processes.values(), b"")
        for pipe in processes.values():
            self._selector.register(pipe, selectors.EVENT_READ)

    def hear(self, lines: int) -> None:
        """Until so many things were said, or everybody is gone."""
        while lines > 0 and self._rest:
            ready = self._selector.select(SECONDS)
            if not ready:
                self.kill()
            for key, _ in ready:
                lines -= self._read(key.fd)

    def deaf_from(self, moment: float) -> None:
        """What is said later was said by those whose power is gone: nobody could have heard it."""
        self._deaf_from = moment

    def kill(self) -> None:
        for pid in self.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Hear everything, to the end of every process."""
        while self._rest:
            self.hear(10**9)
        for pid in self.processes:
            os.waitpid(pid, 0)
        self._selector.close()

    def _read(self, pipe: int) -> int:
        data = os.read(pipe, 65536)
        *whole, self._rest[pipe] = (self._rest[pipe] + data).split(b"\n")
        for line in whole:
            self._take(json.loads(line))
        if not data:
            self._selector.unregister(pipe)
            os.close(pipe)
            del self._rest[pipe]
        return len(whole)

    def _take(self, said: dict[str, Any]) -> None:
        what, at = said.pop("what"), said.pop("at")
        if what == "means":
            self._ledger.means(**said)
        elif what == "broken":
            self._ledger.broken(f"{said}")
        elif at < self._deaf_from:
            self._ledger.told(**said)


class Crowd:
    """Writers of the store in `root`, and the ledger of what they say. `before` runs first in each process."""

    def __init__(self, root: Path, seed: int, before: Callable[[], None] | None = None) -> None:
        self._root = root
        self._seed = seed
        self._before = before
        self._rounds = 0
        Store.open(str(root))
        self.ledger = Ledger(root)

    @contextmanager
    def at_work(self, processes: int, threads: int) -> Iterator[Work]:
        """Until they end, as whoever asks for them sees to."""
        self._rounds += 1
        pipes: dict[int, int] = {}
        for number in range(processes):
            hears, says = os.pipe()
            pid = os.fork()
            if not pid:
                _process(self._root, f"{self._seed}-{self._rounds}-{number}", threads, says, self._before)
            os.close(says)
            pipes[pid] = hears
        work = Work(pipes, self.ledger)
        try:
            yield work
        except BaseException:
            work.kill()
            raise
        finally:
            work.end()


def _process(root: Path, name: str, threads: int, says: int, before: Callable[[], None] | None) -> None:
    """Never returns."""
    try:
        if before is not None:
            before()
        store = Store.open(str(root))
        writers = [threading.Thread(target=_Writer(store, f"{name}-{n}", says).run) for n in range(threads)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    finally:
        os._exit(0)


class _Writer:
    """Changes and reads until the store fails. What it says is one write, which a pipe takes whole or not at all."""

    def __init__(self, store: Store, name: str, says: int) -> None:
        self._store = store
        self._name = name
        self._says = says
        self._draw = Random(name)

    def run(self) -> None:
        for number in count():
            task = self._draw.choice(TASKS)
            try:
                self._act(task, f"{self._name}-{number}")
            except TOLD_NO:
                continue
            except Corrupt as error:
                self._say(what="broken", task=task, error=str(error))
                return
            except StoreError:
                return

    def _act(self, task: str, op_id: str) -> None:
        event, file = self._draw.choices(EVENTS, WEIGHTS)[0], self._draw.choice(FILES)
        if event == "read":
            self._store.load(self._store.current(task))
            return
        self._say(what="means", op=op_id, task=task, event=event, digest=file.digest)
        if event == "publish":
            made, _ = self._store.publish(task, file, verified=False, op_id=op_id)
        elif event == "delete":
            made = self._store.delete(task, op_id)
        else:
            newest = self._store.current(task).version
            made, _ = self._store.rollback(task, self._draw.randint(1, newest), op_id)
        self._say(what="told", op=op_id, task=made.name, version=made.version, event=made.event, digest=made.digest)

    def _say(self, **said: Any) -> None:
        os.write(self._says, json.dumps({**said, "at": time.monotonic()}).encode() + b"\n")
