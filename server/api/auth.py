"""Who may call what. Default-deny: a route that declares nothing needs the admin key.

Knows keys and endpoints, never paths: a path can be spelled in many ways.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.requests import Request

from server.config import Settings
from server.errors import Forbidden, Invalid, Unauthorized

SCHEME = b"bearer "
CALLER = "softprompt.caller"


class Access(IntEnum):
    """What a route needs; a higher right includes the lower ones."""

    OPEN = 0
    GENERATE = 1
    ADMIN = 2


Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_DECLARED: dict[Callable[..., Any], Access] = {}


def needs(access: Access) -> Callable[[Endpoint], Endpoint]:
    """Declares what an endpoint needs."""

    def declare(endpoint: Endpoint) -> Endpoint:
        _DECLARED[endpoint] = access
        return endpoint

    return declare


def needed(endpoint: Callable[..., Any] | None) -> Access:
    return _DECLARED.get(endpoint, Access.ADMIN) if endpoint is not None else Access.ADMIN


def is_open(route: APIRoute) -> bool:
    """Whether no key is ever needed."""
    return needed(route.endpoint) is Access.OPEN


class Keys:
    """Hashes of the keys; the keys themselves are not kept. Every one is compared, every time."""

    def __init__(self, settings: Settings) -> None:
        self.closed = settings.closed
        self._known = [*_known(settings.admin_key, Access.ADMIN), *_known(settings.api_key, Access.GENERATE)]

    def sender(self, headers: Iterable[tuple[bytes, bytes]]) -> "Caller":
        """Who has sent a request with these headers, with every right where no keys are set. Raises Unauthorized, or
        Invalid where two headers leave open which key counts."""
        if not self.closed:
            return Caller(Access.ADMIN)
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) > 1:
            raise Invalid("invalid_request", "more than one Authorization header")
        caller = self.caller(given[0][len(SCHEME) :]) if given and given[0][: len(SCHEME)].lower() == SCHEME else None
        if caller is None:
            fault = Unauthorized("invalid_api_key", "a valid key is needed: Authorization: Bearer <key>")
            fault.headers["WWW-Authenticate"] = "Bearer"
            raise fault
        return caller

    def caller(self, key: bytes) -> "Caller | None":
        """Whose key it is; None for a key that is not ours."""
        given = hashlib.sha256(key).digest()
        found = [hmac.compare_digest(given, known) for known, _ in self._known]
        if not any(found):
            return None
        number = found.index(True)
        return Caller(self._known[number][1], number)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what a key gives the right to, and which of all keys it is; None where none are set."""

    access: Access
    number: int | None = None


def _known(keys: Iterable[SecretStr], access: Access) -> list[tuple[bytes, Access]]:
    return [(hashlib.sha256(key.get_secret_value().encode()).digest(), access) for key in keys]


async def authorize(request: Request) -> None:
    """A dependency of every route, before path, query or body is looked at. Raises as `authenticate`, or Forbidden."""
    wanted = needed(request.scope.get("endpoint"))
    if wanted is Access.OPEN:
        return
    caller = request.scope[CALLER] = authenticate(request)
    if caller.access < wanted:
        raise Forbidden("insufficient_scope", "this key may not do that; an admin key may")


def caller_of(request: Request) -> int | None:
    """Which key the request came with, by its number; None where no keys are set."""
    caller: Caller = request.scope[CALLER]
    return caller.number


def authenticate(request: Request) -> Caller:
    """Who has sent the request. Raises as `Keys.sender`."""
    keys: Keys = request.app.state.keys
    return keys.sender(request.scope["headers"])
