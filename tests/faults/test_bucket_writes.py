"""Writes to a bucket whose answers are lost, late, refused or damaged: what is acknowledged is kept, once, unguessed.

A real S3 server stands behind a proxy: rows P5 and O3-O8 of the catalogue.
"""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from prompt_store.bucket import BucketObjects
from prompt_store.errors import (
    Corrupt,
    OutcomeUnknown,
    PreconditionFailed,
    StoreUnavailable,
)
from prompt_store.garbage import collect
from prompt_store.keys import blob_key, trash_key
from prompt_store.marker import MARKER
from prompt_store.retention import Rules
from prompt_store.store import Store
from tests.faults.buckets import TIMEOUT, versions
from tests.prompt_store.make import ONE, THREE, TWO, put
from tests.s3 import Proxy, always, once
from tests.server.site import until

LATE = 2.0

PUBLISHER = """
import sys
from prompt_store.bucket import BucketObjects
from prompt_store.prompt import parse
from prompt_store.store import Store
Store(BucketObjects(sys.argv[1], 30)).publish("a", parse(sys.stdin.buffer.read()), verified=False, op_id="op")
"""


@pytest.mark.parametrize("part", ["/blobs/", "/tasks/"])
@pytest.mark.parametrize("fault", ["lose", "hang"])
def test_p5_a_publisher_killed_between_its_writes_leaves_a_file_at_most(
    proxy: Proxy, store: Store, s3_store: str, part: str, fault: str
) -> None:
    """kill -9 while the file or the manifest is on its way, before it arrives and after: the same operation, made again
    by another process, is one version."""
    killed: list[subprocess.Popen[bytes]] = []

    def rule(method: str, path: str) -> str | None:
        if method == "PUT" and part in path and not killed[0].poll():
            killed[0].kill()
            return fault
        return None

    killed.append(subprocess.Popen([sys.executable, "-c", PUBLISHER, s3_store], stdin=subprocess.PIPE))
    with proxy.faulty(rule):  # type: ignore[arg-type]
        killed[0].communicate(TWO.data)
    proxy.released.set()
    assert killed[0].returncode == -9
    assert [digest for _, digest in versions(store)][:1] == [ONE.digest]
    assert store.publish("a", TWO, verified=False, op_id="op")[0].version == 2
    assert [op_id for op_id, _ in versions(store)].count("op") == 1


@pytest.mark.parametrize("part", ["/tasks/", "/blobs/"])
@pytest.mark.parametrize("fault", ["lose", "refuse", "cut", 500, 503, 429, 409])
def test_o3_o5_o7_a_write_whose_answer_fails_happens_once(proxy: Proxy, store: Store, part: str, fault: str) -> None:
    """Done and lost, not done, told to come again: read back, made again where it was not, and acknowledged once."""
    with proxy.faulty(once(fault, "PUT", part)):  # type: ignore[arg-type]
        task, created = store.publish("a", TWO, verified=False, op_id="op")
    assert (task.version, created) == (2, True)
    assert versions(store) == [(store.get("a", 1).op_id, ONE.digest), ("op", TWO.digest)]


def test_o4_a_write_that_hangs_ends_at_its_deadline(proxy: Proxy, store: Store) -> None:
    """It is unknown, with the id to ask again; asked again it is made exactly once."""
    began = time.monotonic()
    with proxy.faulty(always("hang", "PUT", "/tasks/")), pytest.raises(OutcomeUnknown) as unknown:
        store.publish("a", TWO, verified=False, op_id="op")
    assert time.monotonic() - began < 10 * TIMEOUT
    assert unknown.value.op_id == "op"
    for _ in range(2):
        assert store.publish("a", TWO, verified=False, op_id="op")[0].version == 2
    assert [op_id for op_id, _ in versions(store)].count("op") == 1


def test_o4_a_write_that_was_done_while_nobody_answers_is_resolved_later(proxy: Proxy, store: Store) -> None:
    """The manifest is there, the answer lost, and what could tell is down: unknown now, found by its id afterwards."""
    lost = [False]

    def rule(method: str, path: str) -> str | None:
        if method == "PUT" and "/tasks/" in path:
            lost[0] = True
            return "lose"
        return "refuse" if lost[0] else None

    with proxy.faulty(rule), pytest.raises(OutcomeUnknown):  # type: ignore[arg-type]
        store.publish("a", TWO, verified=False, op_id="op")
    assert store.current("a").op_id == "op"
    put(store, "a", THREE)
    assert store.publish("a", TWO, verified=False, op_id="op")[0].version == 2, "not a second time, on top of another's"


@pytest.mark.parametrize("rival", [False, True])
def test_o4_a_write_that_arrives_after_all_changes_nothing(
    proxy: Proxy, store: Store, s3_store: str, rival: bool
) -> None:
    """The manifest is held up, its writer gives up and asks again, or somebody else takes the number: then it lands."""
    with proxy.faulty(always("late", "PUT", "/tasks/")), pytest.raises(OutcomeUnknown):
        store.publish("a", TWO, verified=False, op_id="op")
    if rival:
        put(Store(BucketObjects(s3_store, TIMEOUT)), "a", THREE)
    again = store.publish("a", TWO, verified=False, op_id="op")[0]
    assert again.version == (3 if rival else 2)
    proxy.released.set()
    until(lambda: len(proxy.landed) > 1, "what was held up has arrived")
    assert {status for _, status in proxy.landed} == {412}
    assert versions(store)[-1] == ("op", TWO.digest)
    assert [op_id for op_id, _ in versions(store)].count("op") == 1


@pytest.mark.parametrize("fault", ["flip", "cut", 404])
def test_o4_a_version_that_cannot_be_read_may_be_the_operation(proxy: Proxy, store: Store, fault: str) -> None:
    """Asked again by its id over a manifest that does not come whole: nothing is done on top of another's version."""
    store.publish("a", TWO, verified=False, op_id="op")
    put(store, "a", THREE)
    with (
        proxy.faulty(always(fault, "GET", "00000002.json")),  # type: ignore[arg-type]
        pytest.raises((Corrupt, StoreUnavailable)),
    ):
        store.publish("a", TWO, verified=False, op_id="op", given=True)
    assert store.current("a").digest == THREE.digest
    assert store.publish("a", TWO, verified=False, op_id="op", given=True)[0].version == 2


def test_o5_a_conflict_that_stays_is_not_called_taken(proxy: Proxy, store: Store) -> None:
    """S3's 409 says that another writer is at the same key; when nobody comes of it, the outcome is unknown."""
    with proxy.faulty(always(409, "PUT", "/tasks/")), pytest.raises(OutcomeUnknown):
        store.publish("a", TWO, verified=False, op_id="op")
    assert store.current("a").version == 1


def test_o6_what_stands_is_never_written_over(proxy: Proxy, store: Store) -> None:
    """Two servers that have read the same version: the number is won once, the other looks again."""
    with pytest.raises(PreconditionFailed):
        store.publish("a", TWO, verified=False, op_id="x", if_none_match=True)
    manifests = [path for method, path in proxy.asked if method == "PUT" and "/tasks/" in path]
    assert len(manifests) == 1, "the precondition failed before anything was written"


def test_o7_denied_writes_change_nothing_and_say_so(proxy: Proxy, store: Store) -> None:
    """Credentials that may only read: what is there is served."""
    with proxy.faulty(always(403, "PUT")):
        with pytest.raises(StoreUnavailable, match="refuses these credentials"):
            store.publish("a", TWO, verified=False, op_id="op")
        assert store.load(store.current("a")).digest == ONE.digest


def test_o7_a_replica_may_have_credentials_that_only_read(proxy: Proxy, store: Store, s3_store: str) -> None:
    """It starts, and serves."""
    with proxy.faulty(always(403, "PUT")):
        other = Store(BucketObjects(s3_store, TIMEOUT))
        other.check()
        assert other.load(other.current("a")).digest == ONE.digest


def test_o3_many_writers_through_a_bad_network_lose_nothing_and_do_nothing_twice(proxy: Proxy, s3_store: str) -> None:
    """Two servers, eight writers, every fifth request meets a fault: each acknowledged operation is one version."""
    left = threading.Lock()
    count = [0]
    faults = ("lose", "refuse", "cut", 503, "flip", 409)

    def rule(method: str, path: str) -> str | int | None:
        with left:
            count[0] += 1
            number = count[0]
        return faults[number // 5 % len(faults)] if number % 5 == 0 and MARKER not in path else None

    stores = [Store(BucketObjects(s3_store, 2.0)) for _ in range(2)]
    for store in stores:
        store.check()

    def write(number: int) -> str | None:
        file = (ONE, TWO)[number % 2]
        for _ in range(5):
            try:
                return stores[number % 2].publish("a", file, verified=False, op_id=f"op-{number}")[0].op_id
            except (StoreUnavailable, OutcomeUnknown, Corrupt):
                continue
        return None

    with proxy.faulty(rule), ThreadPoolExecutor(8) as pool:  # type: ignore[arg-type]
        acknowledged = [op_id for op_id in pool.map(write, range(24)) if op_id is not None]
    made = [op_id for op_id, _ in versions(stores[0])]
    assert len(made) == len(set(made)), "no operation happened twice"
    assert set(acknowledged) <= set(made), "what is acknowledged is there"
    assert len(acknowledged) > 12
    assert [task.version for task in stores[1].versions("a")[::-1]] == list(range(1, len(made) + 1))


@pytest.mark.parametrize("answered", [True, False])
def test_o4_a_removal_that_arrives_late_loses_nothing_that_is_named(
    proxy: Proxy, s3_store: str, answered: bool
) -> None:
    """A collection's DELETE is held up; the file is published meanwhile; then it lands. The trash still has it.

    `answered`: the collection tries again and goes on; else it is stopped, and another one runs before it lands.
    """
    objects = BucketObjects(s3_store, TIMEOUT, lateness=LATE)
    store, key = Store(objects), blob_key(TWO.digest)
    put(store, "a", ONE)
    objects.create(key, TWO.data)
    written = next(entry.modified for entry in objects.entries("blobs/") if entry.key == key)
    until(lambda: objects.now() - written > LATE, "the file is old")
    asked: list[str] = []

    def late(method: str, path: str) -> str | None:
        """The first is that of the clock's own object."""
        asked.extend([path] if method == "POST" else [])
        return "late" if method == "POST" and (len(asked) == 2 or (len(asked) > 2 and not answered)) else None

    with proxy.faulty(late), suppress(StoreUnavailable):  # type: ignore[arg-type]
        collect(objects, Rules(grace=0))
    assert objects.has(trash_key(TWO.digest))
    task = put(store, "b", TWO)
    collect(objects, Rules(grace=0))
    proxy.released.set()
    until(lambda: len(proxy.landed) > 0, "it has landed")
    assert store.load(task).data == TWO.data
    collect(objects, Rules(grace=0))
    assert (objects.has(key), store.load(task).data) == (True, TWO.data)
