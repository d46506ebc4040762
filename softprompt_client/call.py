"""A request as a value: what is sent, how its answer is read, and whether it may be sent again.

Both clients send these and nothing else. Knows HTTP; no routes.
"""

import email.utils
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from softprompt_client.errors import TRY_AGAIN, garbled, refused, unheard

T = TypeVar("T")

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""No byte of the request has left."""
UNBOUNDED = httpx.Limits(max_connections=None, max_keepalive_connections=None)
"""How many requests are in flight is the caller's to say."""
FIRST_WAIT = 0.25
LONGEST_WAIT = 30.0
"""Seconds: a server that asks for more is not waited for."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """`read` makes the answer of a successful response; raises SoftpromptError for a body that is none."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    json: Any = None
    content: bytes | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Built anew for each attempt."""
        return client.build_request(
            self.method, self.path, json=self.json, content=self.content, params=self.query, headers=self.headers
        )


def holding(*shapes: Mapping[str, type]) -> Callable[[httpx.Response], Any]:
    """Reads an object with all fields of one of `shapes`, each of its type; it may have more."""

    def read(response: httpx.Response) -> dict[str, Any]:
        found = _object(response)
        if not any(all(isinstance(found.get(name), kind) for name, kind in shape.items()) for shape in shapes):
            raise garbled(response, "the answer lacks what every answer has: is this a softprompt server?")
        return found

    return read


def listed(name: str, number: int | None = None) -> Callable[[httpx.Response], Any]:
    """Reads the objects that stand in a list under `name`, so many if `number` says it."""

    def read(response: httpx.Response) -> list[Any]:
        found = _object(response).get(name)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise garbled(response, "the answer has no list of objects: is this a softprompt server?")
        if number is not None and len(found) != number:
            raise garbled(response, f"{len(found)} answers to {number} requests")
        return found

    return read


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except (ValueError, RecursionError):
        raise garbled(response, "the answer is not JSON: is this a softprompt server?") from None
    if not isinstance(found, dict):
        raise garbled(response, "the answer is no JSON object: is this a softprompt server?")
    return found


def wait_before(call: Call[Any], outcome: httpx.Response | httpx.RequestError, tried: int, retries: int) -> float:
    """Seconds until the same is sent again. Raises SoftpromptError when it is not.

    It is after 429 and 503, when no byte was sent, and when the request names its operation, so that twice is once.
    A request that may have run is never sent again otherwise.
    """
    wait: float = FIRST_WAIT * 2.0**tried * random.uniform(0.5, 1.0)
    if isinstance(outcome, httpx.Response):
        error, again = refused(outcome), outcome.status_code in TRY_AGAIN
        wait = max(wait, _asked(outcome.headers.get("Retry-After")))
    else:
        unread = isinstance(outcome, httpx.DecodingError)
        again = not unread and (isinstance(outcome, NOT_SENT) or "Idempotency-Key" in call.headers)
        error = unheard(outcome, retryable=again)
    if not again or tried >= retries or wait > LONGEST_WAIT:
        raise error from (outcome if isinstance(outcome, Exception) else None)
    return wait


def _asked(retry_after: str | None) -> float:
    """Seconds, of a number or a date; 0 for anything else."""
    try:
        return max(float(retry_after or 0), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(str(retry_after)).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
