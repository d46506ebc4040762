"""Many writers of one store, in several processes, and a ledger outside of it: what each meant to do, and was told.

Whoever starts a crowd decides how it ends. Afterwards every version has to be one that somebody meant, and every
acknowledged one has to be there. Knows no fault.
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
from prompt_store.local import TEMPORARY
from prompt_store.prompt import PromptFile
from prompt_store.store import Store
from prompt_store.task import Task
from tests.prompt_store.make import embeddings

TASKS = 6
FILES: Sequence[PromptFile] = [embeddings(length, seed=length) for length in (1, 2, 3, 50, 51, 52, 300, 1500)]
"""Some smaller than a block and some of many."""
EVENTS, WEIGHTS = ("publish", "delete", "rollback", "read"), (6, 1, 2, 2)
TOLD_NO = (TaskNotFound, TaskDeleted, VersionDeleted, VersionNotFound)
SECONDS = 30.0
"""For writers whose disk is gone to notice."""


class Work:
    """Processes at work; what they say goes into the ledger."""

    def __init__(self, processes: Mapping[int, int], take: Callable[[dict[str, Any]], None]) -> None:
        self.processes = processes
        self._take = take
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
            said = json.loads(line)
            if said.pop("at") < self._deaf_from or said["what"] == "means":
                self._take(said)
        if not data:
            self._selector.unregister(pipe)
            os.close(pipe)
            del self._rest[pipe]
        return len(whole)


class Crowd:
    """Writers of the store in `root`, and what they were told. `before` runs first in each process."""

    def __init__(self, root: Path, seed: int, before: Callable[[], None] | None = None) -> None:
        self._root = root
        self._seed = seed
        self._before = before
        self._rounds = 0
        self._meant: dict[str, dict[str, Any]] = {}
        self._told: list[dict[str, Any]] = []
        self._broken: list[str] = []
        self._seen: dict[tuple[str, int], str] = {}
        self.acknowledged = 0
        Store.open(str(root))

    @contextmanager
    def at_work(self, processes: int, threads: int) -> Iterator[Work]:
        self._rounds += 1
        pipes: dict[int, int] = {}
        for number in range(processes):
            hears, says = os.pipe()
            pid = os.fork()
            if not pid:
                _process(self._root, f"{self._seed}-{self._rounds}-{number}", threads, says, self._before)
            os.close(says)
            pipes[pid] = hears
        work = Work(pipes, self._take)
        try:
            yield work
        except BaseException:
            work.kill()
            raise
        finally:
            work.end()

    def _take(self, said: dict[str, Any]) -> None:
        if said["what"] == "means":
            self._meant[said["op"]] = said
        elif said["what"] == "told":
            self._told.append(said)
            self.acknowledged += 1
        else:
            self._broken.append(f"{said}")

    def lost(self) -> str | None:
        """What was broken, if anything; a ledger that held is begun anew with what was found."""
        try:
            store = Store.open(str(self._root))
            found = {(task.name, task.version): task for number in range(TASKS) for task in _versions(store, number)}
            problem = next(self._problems(store, found), None)
        except StoreError as error:
            return f"{type(error).__name__}: {error}"
        self._told = []
        self._seen = {key: task.op_id for key, task in found.items()}
        return problem

    def leftovers(self) -> int:
        """Temporary files and prompt files that no manifest names: bounded by the files that there are to publish."""
        return sum(1 for _ in (self._root / TEMPORARY).iterdir())

    def _problems(self, store: Store, found: Mapping[tuple[str, int], Task]) -> Iterator[str]:
        yield from self._broken
        if self.leftovers():
            yield "temporary files outlived a start"
        for key, op_id in self._seen.items():
            if key not in found or found[key].op_id != op_id:
                yield f"{key} was there after the last fault, and is not"
        for said in self._told:
            task = found.get((said["task"], said["version"]))
            if task is None or (task.digest, task.event) != (said["digest"], said["event"]):
                yield f"acknowledged, and not there: {said}"
        operations = [task.op_id for task in found.values()]
        if len(set(operations)) != len(operations):
            yield "one operation made two versions"
        for digest in {task.digest: task for task in found.values()}.values():
            if digest.digest is not None:
                store.load(digest)
        for key, task in found.items():
            yield from self._unmeant(key, task, found)

    def _unmeant(self, key: tuple[str, int], task: Task, found: Mapping[tuple[str, int], Task]) -> Iterator[str]:
        meant = self._meant.get(task.op_id)
        if meant is None or (meant["task"], meant["event"]) != (task.name, task.event):
            yield f"{key} is of nobody"
        elif task.event == "publish" and task.digest != meant["digest"]:
            yield f"{key} is not what was published"
        elif task.event == "rollback" and task.digest != found[task.name, task.source_version or 0].digest:
            yield f"{key} is not what was rolled back to"
        if key[1] > 1 and (key[0], key[1] - 1) not in found:
            yield f"{key} has no version before it"


def _versions(store: Store, number: int) -> Sequence[Task]:
    """Raises Corrupt when the newest cannot be read."""
    name = f"t{number}"
    try:
        versions = store.versions(name)
        newest = store.current(name)
    except TaskDeleted as deleted:
        newest = deleted.tombstone
    except TaskNotFound:
        return []
    if versions[0] != newest:
        raise Corrupt("the current version is not the newest")
    return versions


def _process(root: Path, name: str, threads: int, says: int, before: Callable[[], None] | None) -> None:
    """Never returns."""
    try:
        if before is not None:
            before()
        store = Store.open(str(root))
        writers = [threading.Thread(target=_write, args=(store, f"{name}-{n}", says)) for n in range(threads)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    finally:
        os._exit(0)


def _write(store: Store, name: str, says: int) -> None:
    """Until the store fails. A line is one write, which a pipe takes whole or not at all."""
    draw = Random(name)

    def say(**told: Any) -> None:
        os.write(says, json.dumps({**told, "at": time.monotonic()}).encode() + b"\n")

    for number in count():
        task, event, file = f"t{draw.randrange(TASKS)}", draw.choices(EVENTS, WEIGHTS)[0], draw.choice(FILES)
        op_id = f"{name}-{number}"
        try:
            if event == "read":
                store.load(store.current(task))
                continue
            say(what="means", op=op_id, task=task, event=event, digest=file.digest)
            made = _change(store, task, event, op_id, file, draw)
        except TOLD_NO:
            continue
        except Corrupt as error:
            say(what="broken", task=task, error=str(error))
            return
        except StoreError:
            return
        say(what="told", task=made.name, version=made.version, event=made.event, digest=made.digest)


def _change(store: Store, task: str, event: str, op_id: str, file: PromptFile, draw: Random) -> Task:
    if event == "publish":
        return store.publish(task, file, verified=False, op_id=op_id)[0]
    if event == "delete":
        return store.delete(task, op_id)
    return store.rollback(task, draw.randint(1, store.current(task).version), op_id)[0]
