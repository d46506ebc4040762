"""A bucket as a place for objects: S3 and what speaks its protocol, Google Cloud Storage, Azure. Knows no tasks.

One protocol for all: an object is only ever created (`If-None-Match: *`), and what became of a write whose answer was
lost is read back, never guessed. What a bucket shows, it keeps.
"""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from prompt_store.connection import (
    PROVED,
    Connection,
    attempts,
    is_refused,
    put_new,
    put_over,
    reason,
    translated,
)
from prompt_store.errors import StoreRefuses, StoreUnavailable
from prompt_store.objects import Entry, Exists, Missing, Unconfirmed

PATIENCE = 3
"""Timeouts that a write may take, with all that is done to find out what became of it, until it is unconfirmed."""
PARALLEL = 16
LATENESS = 3600.0
"""A DELETE that lost its connection may still be on its way to the bucket; not for an hour."""
PAGE = 1000
MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class BucketObjects:
    """Objects below a URL such as `s3://bucket/folder`. Any number of servers may share it."""

    parallel = PARALLEL

    def __init__(self, url: str, timeout: float, *, make: bool = True, lateness: float = LATENESS) -> None:
        """Nothing is asked of the bucket yet: a server may start before it. `timeout`: of one request, in seconds.

        `make`: a place that holds nothing becomes a store; else it is StoreUnsuitable. ValueError for a URL that names
        no bucket.
        """
        self._bucket = Connection(url, timeout, make=make)
        self.lateness = lateness
        self._patience = PATIENCE * timeout
        self._lock = threading.Lock()
        self._names: dict[str, tuple[float, list[str]]] = {}

    def check(self) -> None:
        """See Objects. The first time also whether the bucket honours conditional writes."""
        self._bucket.check()

    def get(self, key: str) -> bytes:
        """See Objects."""
        self._bucket.opened()
        return self._read(key)

    def has(self, key: str) -> bool:
        """See Objects."""
        self._bucket.opened()
        try:
            with translated():
                obstore.head(self._bucket.reads, key)
        except FileNotFoundError as error:
            self._bucket.check_absence(error)
            return False
        self._bucket.proved()
        return True

    def create(self, key: str, data: bytes) -> None:
        """See Objects. A write that may have happened is read back; one that did not is made again."""
        self._bucket.opened()
        sent = False
        for _ in attempts(self._patience):
            try:
                etag = put_new(self._bucket.writes, key, data)
            except AlreadyExistsError:
                pass  # somebody's; or our own of an attempt before; or S3's 409, another writer being at it just now
            except (BaseError, OSError) as error:
                if not sent and is_refused(error):
                    raise StoreRefuses(reason(error)) from error
            else:
                self._verify(key, data, etag)
                return self._created()
            sent = True
            try:
                found = self._read(key)
            except (Missing, StoreUnavailable):
                continue
            if found == data:
                return self._created()
            raise Exists(key)
        raise Unconfirmed(key)

    def replace(self, key: str, data: bytes) -> None:
        """See Objects."""
        self._bucket.opened()
        with translated():
            put_over(self._bucket.reads, key, data)

    def confirm(self, key: str) -> None:
        """Nothing to do."""

    def move(self, key: str, to: str) -> None:
        """See Objects."""
        self.create(to, self.get(key))
        self.remove(key)

    def remove(self, key: str) -> None:
        """See Objects."""
        self._bucket.opened()
        with suppress(FileNotFoundError), translated():
            obstore.delete(self._bucket.reads, key)

    def now(self) -> float:
        """See Objects: the time stamp of an object written now."""
        self._bucket.opened()
        probe = f"clock/{uuid4().hex}"
        try:
            with translated():
                put_over(self._bucket.reads, probe, b"")
                written = obstore.head(self._bucket.reads, probe)["last_modified"]
        except FileNotFoundError as error:
            raise StoreUnavailable("what was written a moment ago is not there") from error
        self.remove(probe)
        return written.timestamp()

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """See Objects. A thousand a request."""
        return (entry.key for entry in self._listed(prefix, after))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See Objects. A thousand a request."""
        return self._listed(prefix, "")

    def folders(self, prefix: str, above: str = "", below: str = "", *, descending: bool = False) -> Iterator[str]:
        """See Objects. Upwards no more is read than the caller takes; downwards all names are."""
        if not descending:
            yield from self._upwards(prefix, above, below)
            return
        for name in reversed(self._all_names(prefix)):
            if name <= above:
                return
            if not below or name < below:
                yield name

    def _upwards(self, prefix: str, above: str, below: str) -> Iterator[str]:
        last = above
        for key in self.keys(prefix, prefix + above + ("/~" if above.endswith("!") else "")):
            name, slash, _ = key.removeprefix(prefix).partition("/")
            if not slash or name == last or name <= above:
                continue
            if below and name >= below:
                return
            last = name
            yield name

    def _all_names(self, prefix: str) -> list[str]:
        """Remembered for a moment, since pages come in a row, and forgotten when this process adds an object."""
        with self._lock:
            when, names = self._names.get(prefix, (float("-inf"), []))
        if time.monotonic() - when > PROVED:
            when = time.monotonic()
            self._bucket.opened()
            with translated():
                found = obstore.list_with_delimiter(self._bucket.reads, prefix.rstrip("/"))
            names = sorted(path.removeprefix(prefix) for path in found["common_prefixes"])
            if not names:
                self._bucket.check()
            with self._lock:
                self._names[prefix] = (when, names)
        return names

    def _listed(self, prefix: str, after: str) -> Iterator[Entry]:
        """A page that does not arrive whole is asked for again, once, behind what was had of it."""
        self._bucket.opened()
        last = after
        for attempt in range(2):
            try:
                for entry in self._pages(prefix, last):
                    last = entry.key
                    yield entry
                break
            except StoreUnavailable:
                if attempt:
                    raise
        if last == after:
            self._bucket.check()  # an emptied bucket lists nothing either

    def _pages(self, prefix: str, after: str) -> Iterator[Entry]:
        with translated():
            for page in obstore.list(self._bucket.reads, prefix.rstrip("/"), offset=after or None, chunk_size=PAGE):
                for item in page:
                    yield Entry(item["path"], item["size"], item["last_modified"].timestamp())
                self._bucket.proved()

    def _read(self, key: str) -> bytes:
        try:
            with translated():
                data = bytes(obstore.get(self._bucket.reads, key).bytes())
        except FileNotFoundError as error:
            self._bucket.check_absence(error)
            raise Missing(key) from None
        self._bucket.proved()
        return data

    def _created(self) -> None:
        self._bucket.proved()
        with self._lock:
            self._names.clear()

    def _verify(self, key: str, data: bytes, etag: str | None) -> None:
        """An ETag that is an MD5 says what arrived: what was damaged on its way is put right before it is relied on."""
        match = MD5.fullmatch(etag or "")
        if match is None or match[1] == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return
        try:
            if self._read(key) != data:  # else it is of another kind: some buckets encrypt
                self.replace(key, data)
        except (Missing, StoreUnavailable):
            raise Unconfirmed(key) from None
