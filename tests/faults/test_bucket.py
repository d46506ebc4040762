"""A bucket that loses, delays, cuts, flips, refuses and forgets: what is acknowledged is kept, once, and never guessed.

A real S3 server stands behind a proxy; the rows O1-O10 of the catalogue, as far as the store alone is concerned.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from prompt_store.bucket import BucketObjects
from prompt_store.errors import (
    Corrupt,
    OutcomeUnknown,
    PreconditionFailed,
    StoreUnavailable,
    StoreUnsuitable,
)
from prompt_store.marker import MARKER
from prompt_store.store import Store
from tests.prompt_store.make import ONE, TWO, put
from tests.s3 import BUCKET, Proxy, Rule, always, ask, credentials, once

TIMEOUT = 0.4
"""Seconds for one request; a write has three times that."""


@pytest.fixture
def proxy(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What the store's own variables lead to."""
    with Proxy(s3_port).running() as found:
        for name, value in credentials(found.url).items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def store(proxy: Proxy, s3_store: str) -> Store:
    """A store behind the proxy that holds ONE as version 1 of `a`."""
    found = Store(BucketObjects(s3_store, TIMEOUT))
    put(found, "a", ONE)
    return found


def folder(location: str) -> str:
    """As it stands in a path of the server."""
    return f"/{BUCKET}/{location.rsplit('/', 1)[1]}"


def versions(store: Store) -> list[tuple[str, str | None]]:
    """All of the task, oldest first, each loaded whole."""
    found = store.versions("a")[::-1]
    for task in found:
        assert store.load(task).digest == task.digest
    return [(task.op_id, task.digest) for task in found]


def is_put(part: str, fault: str) -> Rule:
    """A rule for writes of that kind of object."""
    return lambda method, path: fault if method == "PUT" and part in path else None  # type: ignore[return-value]


def test_o1_a_bucket_that_is_down_is_unavailable_and_is_found_when_it_comes(proxy: Proxy, s3_store: str) -> None:
    """Nothing listens, no name, no such bucket, no credentials: said as such each time; then it is there."""
    store = Store(BucketObjects(s3_store, TIMEOUT))
    with proxy.faulty(always("refuse")), pytest.raises(StoreUnavailable, match="does not answer"):
        store.check()
    with proxy.faulty(always(403)), pytest.raises(StoreUnavailable, match="refuses these credentials"):
        store.check()
    with pytest.raises(StoreUnavailable, match="no such bucket"):
        Store(BucketObjects("s3://another/store", TIMEOUT)).check()
    store.check()
    assert store.list() == ([], False)


def test_o1_a_bucket_that_ignores_conditions_is_refused(proxy: Proxy, s3_store: str) -> None:
    """The self-test: the second write of the marker must fail. Here the proxy takes the condition away."""
    proxy.drops.add("if-none-match")
    with pytest.raises(StoreUnsuitable, match="ignores If-None-Match"):
        Store(BucketObjects(s3_store, TIMEOUT)).check()


def test_o1_a_place_of_somebody_else_is_no_store(proxy: Proxy, s3_store: str, s3_port: int) -> None:
    """Objects and no marker: a mistyped bucket, or one that lost its marker."""
    ask(s3_port, "PUT", f"{folder(s3_store)}/photos/1.jpg", b"x")
    with pytest.raises(StoreUnsuitable, match="not a store"):
        Store(BucketObjects(s3_store, TIMEOUT)).check()


def test_o2_down_is_never_absent(proxy: Proxy, store: Store) -> None:
    """No answer, errors, silence: every question fails as unavailable, in bounded time; none says "not found"."""
    for fault in ("refuse", "hang", 503):
        with proxy.faulty(always(fault)):
            for question in (store.current, store.versions, lambda name: store.list(search=name)):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    question("a")
                assert time.monotonic() - began < 10 * TIMEOUT
    assert store.current("a").digest == ONE.digest


def test_o2_an_emptied_bucket_has_lost_no_task(proxy: Proxy, store: Store, s3_store: str, s3_port: int) -> None:
    """Without its marker nothing below it is positively absent, and none is made anew."""
    for key in list(store._objects.keys("")):
        ask(s3_port, "DELETE", f"{folder(s3_store)}/{key}")
    for question in (store.current, store.versions, lambda _name: store.list()):
        with pytest.raises(StoreUnavailable, match="marker"):
            question("a")
    with pytest.raises(StoreUnavailable):
        store.versions("b")
    assert MARKER not in list_of(s3_port, s3_store)


def list_of(port: int, location: str) -> str:
    """The server's own listing."""
    return ask(port, "GET", f"/{BUCKET}?list-type=2&prefix={location.rsplit('/', 1)[1]}").decode()


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
    assert store.publish("a", TWO, verified=False, op_id="op")[0].version == 2


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


@pytest.mark.parametrize("fault", ["flip", "cut"])
@pytest.mark.parametrize("part", ["/blobs/", "/tasks/a%21/00000001.json", "list-type"])
def test_o8_an_answer_that_is_damaged_once_costs_an_attempt(proxy: Proxy, store: Store, part: str, fault: str) -> None:
    """Blob, manifest or listing: read again, and right."""
    with proxy.faulty(once(fault, "GET", part)):  # type: ignore[arg-type]
        assert store.load(store.current("a")).digest == ONE.digest


def test_o8_a_blob_that_is_always_damaged_is_corrupt(proxy: Proxy, store: Store) -> None:
    """Flipped or another's: never served. Cut short, it is not even an answer."""
    with proxy.faulty(always("flip", "GET", "/blobs/")), pytest.raises(Corrupt):
        store.load(store.current("a"))
    with proxy.faulty(always("cut", "GET", "/blobs/")), pytest.raises((Corrupt, StoreUnavailable)):
        store.load(store.current("a"))
    assert store.load(store.current("a")).digest == ONE.digest


@pytest.mark.parametrize("part", ["/tasks/", "/blobs/"])
def test_o8_what_is_damaged_on_its_way_up_is_put_right(proxy: Proxy, store: Store, part: str) -> None:
    """The ETag tells what arrived; nothing is acknowledged that cannot be read."""
    with proxy.faulty(once("flip-sent", "PUT", part)):
        store.publish("a", TWO, verified=False, op_id="op")
    assert versions(store)[-1] == ("op", TWO.digest)


def test_o9_an_old_listing_hides_no_version(proxy: Proxy, store: Store, s3_store: str) -> None:
    """What a listing does not show yet is asked for by name; a number is not given twice."""
    store.current("a")
    for number in range(2, 5):
        put(store, "a", TWO if number % 2 == 0 else ONE)
    with proxy.faulty(always("stale", "GET", "list-type")):
        assert store.current("a").version == 4
        assert store.publish("a", ONE, verified=False, op_id="op")[0].version == 5
        assert Store(BucketObjects(s3_store, TIMEOUT)).current("a").version == 5


def test_o10_credentials_that_expire_are_unavailable_not_absent(proxy: Proxy, store: Store) -> None:
    """And everything works again with new ones."""
    with proxy.faulty(always(403)):
        for question in (store.current, store.versions):
            with pytest.raises(StoreUnavailable, match="credentials"):
                question("a")
    assert store.current("a").digest == ONE.digest


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
