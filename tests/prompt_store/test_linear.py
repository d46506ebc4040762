"""Several writers of one task, in every order of their calls: what they were told fits one history, and the real one.

Hypothesis draws what each does and whose call comes next. The history is the versions' own order; every answer, a
refusal too, must be right at some moment between the question and the answer (linearizability, Herlihy and Wing 1990).
"""

import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_store.bucket import BucketObjects
from prompt_store.errors import PreconditionFailed, TaskDeleted, TaskNotFound, VersionDeleted, VersionNotFound
from prompt_store.local import LocalObjects
from prompt_store.objects import MemoryObjects, Objects
from prompt_store.prompt import PromptFile
from prompt_store.store import Store
from prompt_store.task import Task
from tests.prompt_store.make import ONE, THREE, TWO, put
from tests.prompt_store.turns import Turns

FILES = (ONE, TWO, THREE)
WRITERS = ("x", "y", "z")
ACTS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(FILES), st.sampled_from(("any", "match", "new"))),
    st.tuples(st.just("delete"), st.none(), st.sampled_from(("any", "match"))),
    st.tuples(st.just("rollback"), st.integers(1, 3), st.sampled_from(("any", "match"))),
    st.tuples(st.just("read"), st.none(), st.just("any")),
)
PLANS = st.fixed_dictionaries({name: st.lists(ACTS, min_size=1, max_size=3) for name in WRITERS})
ORDERS = st.lists(st.sampled_from(WRITERS), min_size=60, max_size=120)
Act = tuple[Literal["publish", "delete", "rollback", "read"], Any, Literal["any", "match", "new"]]


@dataclass
class Told:
    """One operation as its writer saw it. `state`: the newest version that the answer shows, 0 for no task at all.

    `made`: that version is its own. `match`: the digest it demanded, `demands_none`: that there be none.
    """

    asked: int
    heard: int
    state: int
    made: bool
    what: str
    digest: str | None = None
    match: str | None = None
    demands_none: bool = False
    refused: bool = False


class Writer:
    """Does its acts one after the other; names the digest that it saw last where it demands one."""

    def __init__(self, name: str, acts: list[Act], clock: "count[int]") -> None:
        self._name = name
        self._acts = acts
        self._clock = clock
        self._seen: str | None = ONE.digest
        self.told: list[Told] = []

    def __call__(self, objects: Objects) -> None:
        store = Store(objects)
        for number, (what, which, demand) in enumerate(self._acts):
            match = self._seen if demand == "match" else None
            told = Told(next(self._clock), 0, -1, False, what, match=match, demands_none=demand == "new")
            self._do(store, told, which, f"{self._name}-{number}")
            told.heard = next(self._clock)
            if told.state >= 0:
                self.told.append(told)

    def _do(self, store: Store, told: Told, which: Any, op_id: str) -> None:
        try:
            task, told.made = self._made(store, told, which, op_id)
            told.state, told.digest = task.version, task.digest
            self._seen = task.digest
        except PreconditionFailed as failed:
            told.refused = True
            if failed.current is not None:
                told.state, told.digest = failed.current.version, failed.current.digest
                self._seen = failed.current.digest
        except TaskDeleted as deleted:
            told.state, told.digest, told.refused = deleted.tombstone.version, None, True
        except TaskNotFound:
            told.state, told.refused = 0, True
        except (VersionNotFound, VersionDeleted):
            pass  # says something of an old version, nothing of the newest

    def _made(self, store: Store, told: Told, which: Any, op_id: str) -> tuple[Task, bool]:
        if told.what == "publish":
            file: PromptFile = which
            options: dict[str, Any] = {"if_match": told.match, "if_none_match": told.demands_none}
            return store.publish("a", file, verified=False, op_id=op_id, **options)
        if told.what == "delete":
            return store.delete("a", op_id, told.match), True
        if told.what == "rollback":
            return store.rollback("a", which, op_id, told.match)
        return store.current("a"), False


def check(told: list[Told], history: list[str | None]) -> None:
    """`history`: the digests of versions 1, which stood before, 2, 3, …; None for a tombstone."""
    made = sorted(one.state for one in told if one.made)
    assert made == list(range(2, len(history) + 1)), "each version was told to one writer as its own"
    for one in told:
        before = [other.state for other in told if other.heard < one.asked]
        until = [other.state for other in told if other.asked < one.heard and other.made]
        earliest, latest = max(before, default=1), max(until, default=1)
        stood = one.state - 1 if one.made else one.state
        assert earliest <= stood <= latest, "an answer is older than one that was heard before, or from the future"
        digest = history[stood - 1]
        if one.made:
            assert one.digest == history[one.state - 1]
            assert one.match in {None, digest}, "it replaced what it did not name"
            assert not (one.demands_none and digest is not None)
            assert not (one.what == "delete" and digest is None)
        else:
            assert one.digest == digest
            assert not (one.refused and one.match is not None and one.match == digest)


def race(objects: Objects, plans: dict[str, list[Act]], order: list[str]) -> None:
    clock = count()
    writers = {name: Writer(name, acts, clock) for name, acts in plans.items()}
    put(Store(objects), "a", ONE)
    Turns(objects, order).run(**writers)
    store = Store(objects)
    versions = store.versions("a")[::-1]
    check([one for writer in writers.values() for one in writer.told], [task.digest for task in versions])
    for task in versions:
        assert task.digest is None or store.load(task).digest == task.digest


@given(plans=PLANS, order=ORDERS)
@settings(max_examples=150, deadline=None)
def test_in_memory(plans: dict[str, list[Act]], order: list[str]) -> None:
    """The protocol itself (R1, R2)."""
    race(MemoryObjects(), plans, order)


@given(plans=PLANS, order=ORDERS)
@settings(max_examples=60, deadline=None)
def test_on_disk(plans: dict[str, list[Act]], order: list[str]) -> None:
    """Hard links (R1, R2)."""
    with tempfile.TemporaryDirectory() as folder:
        race(LocalObjects(Path(folder) / "store"), plans, order)


@pytest.fixture(scope="module")
def places(s3_port: int) -> "count[int]":
    """Numbers of stores that nobody has used."""
    return count()


def test_in_a_bucket(places: "count[int]") -> None:
    """Conditional writes of a real S3 server (R1, R2)."""

    @given(plans=PLANS, order=ORDERS)
    @settings(max_examples=12, deadline=None)
    def raced(plans: dict[str, list[Act]], order: list[str]) -> None:
        race(BucketObjects(f"s3://bucket/linear-{next(places)}", 10), plans, order)

    raced()
