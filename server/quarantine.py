"""A version whose numbers keep failing is refused for a while, before anything is spent on it.

By digest, so that the next version is free at once. Asked again after that while, one request tries it; what becomes of
that decides. Knows digests and a clock; no engine, no HTTP. Of the event loop alone.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.errors import Unavailable
from server.telemetry import logger

FAILURES = 3
"""Requests in a row that met NaN or an infinity, until the version is refused."""
MAX_KNOWN = 4096
"""Versions that have failed lately; beyond that the first is forgotten."""


@dataclass(slots=True)
class Trial:
    """What became of one question: `ran` some of it gave numbers, `failed` some gave none."""

    ran: bool = False
    failed: bool = False


@dataclass(slots=True)
class _Record:
    """`until`: the clock's seconds, None while it is not refused. `tried`: somebody is finding out."""

    failures: int = 0
    until: float | None = None
    tried: bool = False


class Quarantine:
    """Refuses for `seconds`, 0 never; `tell` is called whenever a version is refused from now on."""

    def __init__(self, seconds: float, tell: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._tell = tell
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def check(self, digest: str | None) -> None:
        """Raises Unavailable for a version that is refused, and says for how long."""
        record = self._records.get(digest or "")
        if record is None or record.until is None:
            return
        left = record.until - self._clock()
        if left > 0 or record.tried:
            fault = Unavailable("quarantined", "this version gave numbers that are not finite, again and again", "task")
            fault.headers["Retry-After"] = str(max(1, math.ceil(left)))
            raise fault

    @contextmanager
    def trial(self, digest: str | None, *, anyway: bool = False) -> Iterator[Trial]:
        """Around a question. Raises as `check` does, unless it is to be asked `anyway`."""
        if not anyway:
            self.check(digest)
        found, record = Trial(), self._records.get(digest or "")
        if record is not None and record.until is None:
            record = None  # nothing is closed that others would have to keep out of
        if record is not None:
            record.tried = True
        try:
            yield found
        finally:
            if record is not None:
                record.tried = False
            if digest is not None and found.failed and self._seconds:
                self._failed(digest)
            elif found.ran:
                self._records.pop(digest or "", None)

    def _failed(self, digest: str) -> None:
        record = self._records.setdefault(digest, _Record())
        record.failures += 1
        now = self._clock()
        if record.failures >= FAILURES and (record.until is None or record.until <= now):
            record.until = now + self._seconds
            logger().warning("a version is quarantined", digest=digest, seconds=self._seconds)
            self._tell()
        while len(self._records) > MAX_KNOWN:
            self._records.popitem(last=False)
