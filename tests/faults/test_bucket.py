"""A bucket that is down, in doubt, or answers wrongly: never "not found", never wrong bytes, never an older version.

A real S3 server stands behind a proxy: rows O1, O2 and O8-O10 of the catalogue, as far as the store is concerned.
"""

import time

import pytest

from prompt_store.bucket import BucketObjects
from prompt_store.errors import (
    Corrupt,
    StoreUnavailable,
    StoreUnsuitable,
)
from prompt_store.keys import manifest_key
from prompt_store.marker import MARKER
from prompt_store.store import Store
from tests.faults.buckets import TIMEOUT, folder, versions
from tests.prompt_store.make import ONE, TWO, put
from tests.s3 import BUCKET, Proxy, always, ask, once


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


@pytest.mark.parametrize("fault", ["flip", "cut"])
def test_o1_a_marker_that_is_damaged_on_its_way_is_read_again(
    proxy: Proxy, store: Store, s3_store: str, fault: str
) -> None:
    """A server that starts just then is no reason to call the store another's."""
    with proxy.faulty(once(fault, "GET", MARKER)):  # type: ignore[arg-type]
        Store(BucketObjects(s3_store, TIMEOUT)).check()


def test_o1_who_only_reads_makes_no_store(proxy: Proxy, s3_store: str, s3_port: int) -> None:
    """A mistyped folder, or an emptied bucket, is said to be none, and stays as it is."""
    store = Store(BucketObjects(s3_store, TIMEOUT, make=False))
    for question in (store.check, store.list, lambda: store.current("a")):
        with pytest.raises(StoreUnsuitable, match="nothing was ever kept there"):
            question()
    assert MARKER not in list_of(s3_port, s3_store)


def test_o1_an_endpoint_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the library is asked for anything, which would end the process."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    with pytest.raises(ValueError, match="AWS_ENDPOINT_URL must begin with http"):
        Store.open("s3://bucket/x")


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


def test_o9_an_empty_listing_of_a_task_that_was_seen_hides_nothing(proxy: Proxy, s3_store: str, s3_port: int) -> None:
    """Its first versions are retired; who has seen the last asks for it by name, and gives no number twice."""
    store = Store(BucketObjects(s3_store, TIMEOUT))
    proxy.answers["list-type"] = ask(s3_port, "GET", f"/{BUCKET}?list-type=2&prefix={s3_store.rsplit('/', 1)[1]}/none")
    for file in (ONE, TWO, ONE):
        put(store, "a", file)
    for number in (1, 2):
        store.objects.remove(manifest_key("a", number))
    with proxy.faulty(always("answer", "GET", "list-type")):
        assert store.current("a").version == 3
        assert store.publish("a", TWO, verified=False, op_id="op")[0].version == 4


def test_o9_a_version_that_is_listed_and_gone_is_no_answer(proxy: Proxy, store: Store) -> None:
    """Neither "not found" nor a number to build upon."""
    with proxy.faulty(always(404, "GET", "/tasks/a")):
        with pytest.raises(Corrupt, match="vanished"):
            store.current("a")
        with pytest.raises(StoreUnavailable, match="vanished"):
            store.publish("a", TWO, verified=False, op_id="op")


@pytest.mark.parametrize("methods", [("GET",), ("HEAD",), ("GET", "HEAD", "PUT", "POST")])
def test_o2_what_says_yes_to_everything_is_no_store(proxy: Proxy, store: Store, methods: tuple[str, ...]) -> None:
    """A proxy's page, a wrong address: after a moment every question ends, and none with an answer."""
    with proxy.faulty(lambda method, _path: 200 if method in methods else None):
        with pytest.raises(StoreUnavailable):
            store.current("never")
        if "GET" in methods:
            with pytest.raises(StoreUnavailable):
                store.check()
    assert store.current("a").digest == ONE.digest


def test_o10_credentials_that_expire_are_unavailable_not_absent(proxy: Proxy, store: Store) -> None:
    """And everything works again with new ones."""
    with proxy.faulty(always(403)):
        for question in (store.current, store.versions):
            with pytest.raises(StoreUnavailable, match="credentials"):
                question("a")
    assert store.current("a").digest == ONE.digest
