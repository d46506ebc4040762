"""Who may call what. Default-deny: a route that declares nothing needs the admin key.

Knows keys and endpoints, never paths: a path can be spelled in many ways.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.requests import Request

from server.config import Settings
from server.errors import Forbidden, Invalid, Unauthorized

SCHEME = b"bearer "


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
        self._generate = _hashes(settings.api_key)
        self._admin = _hashes(settings.admin_key)

    def access(self, key: bytes) -> Access | None:
        """The right that a key gives; None for a key that is not ours."""
        given = hashlib.sha256(key).digest()
        admin = [hmac.compare_digest(given, known) for known in self._admin]
        generate = [hmac.compare_digest(given, known) for known in self._generate]
        if any(admin):
            return Access.ADMIN
        return Access.GENERATE if any(generate) else None


def _hashes(keys: Iterable[SecretStr]) -> list[bytes]:
    return [hashlib.sha256(key.get_secret_value().encode()).digest() for key in keys]


async def authorize(request: Request) -> None:
    """A dependency of every route, before path, query or body is looked at. Raises as `authenticate`, or Forbidden."""
    wanted = needed(request.scope.get("endpoint"))
    if wanted is Access.OPEN:
        return
    if authenticate(request) < wanted:
        raise Forbidden("insufficient_scope", "this key may not do that; an admin key may")


def authenticate(request: Request) -> Access:
    """The right that the request's key gives, every right where no keys are set. Raises Unauthorized, or Invalid where
    two headers leave open which one counts."""
    keys: Keys = request.app.state.keys
    if not keys.closed:
        return Access.ADMIN
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(given) > 1:
        raise Invalid("invalid_request", "more than one Authorization header")
    access = keys.access(given[0][len(SCHEME) :]) if given and given[0][: len(SCHEME)].lower() == SCHEME else None
    if access is None:
        fault = Unauthorized("invalid_api_key", "a valid key is needed: Authorization: Bearer <key>")
        fault.headers["WWW-Authenticate"] = "Bearer"
        raise fault
    return access
