"""What a large store costs: a start, pages of tasks, publishing, collecting garbage and checking every file.

A directory on this machine's own disk, and the store as a library; the start is a real `softprompt serve`. Text tasks
of one version: what grows is their number. "first" is what a process that has just opened the store pays, "again" the
same call once more; files are warm in the page cache, since only an administrator may empty it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.order import BUILD, Launch, Order
from benchmarks.report import Chart, charted
from benchmarks.serving import serving
from benchmarks.workload import workload
from prompt_store import manifest
from prompt_store.check import check
from prompt_store.garbage import collect
from prompt_store.keys import blob_key, manifest_key
from prompt_store.metadata import Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, build
from prompt_store.retention import Rules
from prompt_store.store import Store
from prompt_store.task import Task

REPEATS = 1
PAGE = 100
ASKED, PUBLISHED = 5, 20
ORPHANS = 0.01
"""Of the number of tasks: files that nothing names, for a collection to find."""


@dataclass(frozen=True, slots=True)
class Plan:
    """So many tasks of one version."""

    tasks: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", type=int, default=100_000, help="in the store")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """One process builds the store and asks it everything."""
    plan = Plan(min(given.tasks, 200) if given.tiny else given.tasks)
    return [Launch("store", Order.of(given, workload(tiny=given.tiny), plan).to_json())]


def measure(order: Order) -> dict[str, Any]:
    """Seconds of everything, by name; of what is asked twice a pair of them."""
    plan = Plan(**order.plan)
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder, tempfile.TemporaryDirectory(dir=BUILD) as empty:
        built = _timed(lambda: fill(Path(folder), plan.tasks))
        with serving(order, empty) as served:
            start_empty = served.ready - served.started
        with serving(order, folder) as served:
            start_full = served.ready - served.started
        twice = _pages(folder, plan.tasks)
        published = _published(folder, plan.tasks)
        looked_after = _looked_after(folder, plan.tasks)
        size = sum(entry.stat().st_blocks * 512 for entry in Path(folder).rglob("*"))
    once = {"serve, an empty store, until ready": start_empty, "serve, until ready": start_full, **looked_after}
    return {"tasks": plan.tasks, "built": built, "disk": size, "twice": {**twice, **published}, "once": once}


def fill(folder: Path, tasks: int) -> None:
    """What publishing so many text tasks leaves, and some files that nothing names, without an fsync for each."""
    Store.open(str(folder))
    (folder / "blobs").mkdir()
    for index in range(tasks):
        file, name = _file(index), _name(index)
        (folder / blob_key(file.digest)).write_bytes(file.data)
        made = Task(name, 1, "publish", file.digest, len(file.data), file.metadata, False, 0, name, None, None)
        path = folder / manifest_key(name, 1)
        path.parent.mkdir(parents=True)
        path.write_bytes(manifest.write(made))
    for index in range(tasks, tasks + int(tasks * ORPHANS)):
        file = _file(index)
        (folder / blob_key(file.digest)).write_bytes(file.data)


def _file(index: int) -> PromptFile:
    """Another content for each task."""
    return build(SoftPrompt("text", 0, {}), Metadata("text", 0, f"Case {index}: {{input}}\nAnswer:", labels=("a", "b")))


def _name(index: int) -> str:
    return f"team-{index % 100:02}.task-{index:06}"


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _pages(folder: str, tasks: int) -> dict[str, list[float]]:
    """Each with a store that has just been opened, and once more; the medians of a few."""
    middle = _name(tasks // 2)
    asked: dict[str, Callable[[Store], object]] = {
        "100 tasks from the first on": lambda store: store.list(limit=PAGE),
        "100 tasks from the middle on": lambda store: store.list(limit=PAGE, after=middle),
        "100 tasks from the last back": lambda store: store.list(limit=PAGE, order="desc"),
        "100 tasks of a prefix": lambda store: store.list(limit=PAGE, search="team-50."),
        "one task": lambda store: store.current(middle),
    }
    found = {}
    for name, call in asked.items():
        pairs = []
        for _ in range(ASKED):
            store = Store.open(folder)
            pairs.append([_timed(lambda: call(store)) for _ in range(2)])  # noqa: B023 - called at once
        found[name] = [median(seconds) for seconds in zip(*pairs, strict=True)]
    return {"opening the store": [_timed(lambda: Store.open(folder))], **found}


def _published(folder: str, tasks: int) -> dict[str, list[float]]:
    """The median of a few; and what a page costs when its names have just changed, which no later page can use."""
    store = Store.open(folder)
    store.list(limit=PAGE)
    new = iter(range(2 * tasks, 3 * tasks))

    def publish(name: str) -> float:
        index = next(new)
        return _timed(lambda: store.publish(name, _file(index), verified=False, op_id=f"bench-{index}"))

    fresh = [publish(f"team-00.new-{index}") for index in range(PUBLISHED)]
    after = [_timed(lambda: store.list(limit=PAGE)) for _ in range(2)]
    version = [publish(_name(index)) for index in range(PUBLISHED)]
    return {
        "publishing a new task": [median(fresh)],
        "100 tasks just after a new one": after,
        "publishing a new version": [median(version)],
    }


def _looked_after(folder: str, tasks: int) -> dict[str, float]:
    objects = Store.open(folder).objects
    orphans = int(tasks * ORPHANS)
    checked = check(objects)
    if checked.damage:
        raise ValueError(f"{checked.damage} damaged versions in a store that was just made")
    found = {
        "fsck": _timed(lambda: check(objects)),
        "gc --dry-run": _timed(lambda: collect(objects, Rules(dry_run=True))),
    }
    with _expecting(orphans) as told:
        found[f"gc, {orphans:,} files into the trash"] = _timed(
            lambda: told.append(collect(objects, Rules(grace=0)).moved.count)
        )
    with _expecting(orphans) as told:
        found[f"gc, {orphans:,} files out of it"] = _timed(
            lambda: told.append(collect(objects, Rules(grace=0)).removed.count)
        )
    return found


@contextmanager
def _expecting(count: int) -> Iterator[list[int]]:
    """Raises ValueError where a collection did other work than what is measured."""
    told: list[int] = []
    yield told
    if told != [count]:
        raise ValueError(f"{told} files were collected in place of {count}")


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """What is asked again and again, and what is done once."""
    count = f"{runs[0]['tasks']:,}"
    twice = {
        name: {
            column: [1000 * run["twice"][name][index] for run in runs]
            for index, column in enumerate(("first", "again")[: len(seconds)])
        }
        for name, seconds in runs[0]["twice"].items()
    }
    once = {name: {count: [run["once"][name] for run in runs]} for name in runs[0]["once"]}
    return [
        charted(f"ms in a directory of {count} tasks", "call", twice, best=min),
        charted("seconds", "number of tasks", once, best=min),
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the store is."""
    return {"MiB on disk": round(runs[0]["disk"] / 2**20), "seconds to write it": round(runs[0]["built"], 1)}
