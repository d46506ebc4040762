"""The way to a bucket: is it there, is it a store, can it be trusted, and what its errors mean. Knows no other object.

Credentials, region and endpoint come from each provider's usual variables, which obstore reads (docs/store.md).
"""

import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from prompt_store.endpoint import check_endpoint
from prompt_store.errors import StoreUnavailable, StoreUnsuitable
from prompt_store.marker import MARKER, MARKER_TEXT, check_format

RETRIES = 3
PAUSE = (0.1, 2.0)
"""Seconds before a second attempt, and at most; doubled each time, drawn from half of it upwards."""
PROVED = 1.0
"""Seconds for which an answer from below the marker proves that the store is there."""


BAD_PATH = re.compile(r'Error parsing Path ("[^\n]*"):')
REFUSED = re.compile(r"status code: 40[13]\b")


class Connection:
    """`reads` tries again by itself. `writes` does not: repeated blindly, a write meets itself and says "exists"."""

    def __init__(self, url: str, timeout: float, *, make: bool) -> None:
        """`timeout`: seconds that one request may take. Nothing is asked yet. ValueError for a URL of no bucket."""
        self._make = make
        check_endpoint()
        patience = timedelta(seconds=timeout)
        client: Any = {
            "timeout": patience,
            "connect_timeout": patience / 2,
            "allow_http": True,  # a provider's own endpoint is https: only an operator can have named another
        }
        pauses = {"init_backoff": timedelta(seconds=PAUSE[0]), "max_backoff": timedelta(seconds=PAUSE[1])}
        again: Any = {"max_retries": RETRIES, "retry_timeout": patience, "backoff": pauses}
        once: Any = {"max_retries": 0, "retry_timeout": patience}
        try:
            self.reads: Any = from_url(url, client_options=client, retry_config=again)
            self.writes: Any = from_url(url, client_options=client, retry_config=once)
        except (BaseError, ValueError) as error:
            found = str(error).partition("\n")[0]
            raise ValueError(
                f"a bucket is s3://bucket/folder, gs://bucket/folder or az://container/folder: {found}"
            ) from None
        self._lock = threading.Lock()
        self._is_open = False
        self._seen = float("-inf")

    def check(self) -> None:
        """Raises StoreUnavailable as long as the store cannot be reached, StoreUnsuitable where it never can serve."""
        with self._lock:
            if not self._is_open:
                self._open()
                self._is_open = True
                return
        self._check_marker()

    def opened(self) -> None:
        """Nothing is read or written before the store has been found good, once."""
        if not self._is_open:
            self.check()

    def proved(self) -> None:
        """Something below the marker was read or written just now."""
        self._seen = time.monotonic()

    def check_absence(self, error: Exception) -> None:
        """A bucket that is gone holds nothing either: what is not found is absent only where the store is there."""
        if "NoSuchBucket" in str(error):
            raise StoreUnavailable("there is no such bucket") from error
        if time.monotonic() - self._seen > PROVED:
            self._check_marker()

    def _open(self) -> None:
        """The marker is made where there is nothing else; a bucket worth trusting refuses to make it twice."""
        try:
            found = self._marker()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise StoreUnavailable("there is no such bucket") from error
            if not self._make:
                raise StoreUnsuitable(f"there is no {MARKER}: nothing was ever kept there, or it was removed") from None
            self._make_marker()
            found = MARKER_TEXT
        if found != MARKER_TEXT and self._marker() != MARKER_TEXT:  # on its way, perhaps
            check_format(found)
        try:
            put_new(self.writes, MARKER, MARKER_TEXT)
        except AlreadyExistsError:
            self.proved()
        except (BaseError, OSError) as error:
            if not is_refused(error):
                raise StoreUnavailable(reason(error)) from error
            # Credentials that may only read: what is there can be served, and each write will say so.
        else:
            raise StoreUnsuitable("the bucket ignores If-None-Match: two writers would overwrite each other")

    def _make_marker(self) -> None:
        with translated():
            there = obstore.list_with_delimiter(self.reads)
            names: Sequence[Any] = [*there["common_prefixes"], *there["objects"]]
            if names:
                raise StoreUnsuitable(
                    f"not a store: there are {len(names)} other names and no {MARKER}; name a folder of its own"
                )
            with suppress(AlreadyExistsError):  # another server starts at this moment
                put_new(self.reads, MARKER, MARKER_TEXT)

    def _check_marker(self) -> None:
        try:
            if self._marker() != MARKER_TEXT and self._marker() != MARKER_TEXT:
                raise StoreUnavailable("something else answers in the place of the store")
        except FileNotFoundError as error:
            raise StoreUnavailable("the store has lost its marker: emptied or removed") from error
        self.proved()

    def _marker(self) -> bytes:
        with translated():
            return bytes(obstore.get(self.reads, MARKER).bytes())


def put_new(store: Any, key: str, data: bytes) -> str | None:
    """Only where nothing stands under the key; the ETag. Raises AlreadyExistsError."""
    return obstore.put(store, key, data, mode="create", use_multipart=False)["e_tag"]


def put_over(store: Any, key: str, data: bytes) -> None:
    """Whatever stands there."""
    obstore.put(store, key, data, mode="overwrite", use_multipart=False)


def attempts(seconds: float) -> Iterator[None]:
    """At once, and again after growing pauses as long as `seconds` are not over."""
    end = time.monotonic() + seconds
    pause, most = PAUSE
    while True:
        yield
        wait = random.uniform(pause / 2, pause)
        if time.monotonic() + wait > end:
            return
        time.sleep(wait)
        pause = min(most, 2 * pause)


@contextmanager
def translated() -> Iterator[None]:
    """Faults of network and provider in the words of the store; what is not there is for the caller to judge."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise StoreUnavailable(reason(error)) from error


def is_refused(error: Exception) -> bool:
    """Whether the bucket has said no, for certain. Of a listing only the text tells."""
    return isinstance(error, PermissionDeniedError | UnauthenticatedError) or REFUSED.search(str(error)) is not None


def reason(error: Exception) -> str:
    """In a few words, without the URL, which the cause has."""
    if is_refused(error):
        return "the bucket refuses these credentials"
    if "NoSuchBucket" in str(error):
        return "there is no such bucket"
    if (path := BAD_PATH.search(str(error))) is not None:
        return f"somebody has put an object there whose key is no path: {path[1][:200]}"
    return "the bucket does not answer as it should"
