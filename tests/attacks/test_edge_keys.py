"""Keys that are none, too many, too long or in the wrong place: H01 to H08."""

import hmac
import json
import sys
from typing import Any

import pytest

from server.api.auth import Access, Keys
from tests.attacks.edge import Edge, request
from tests.server.api.walk import ADMIN_KEY, API_KEY, METHODS, NAMES, OPEN, TABLE, Caller

UNKNOWN = ("/nowhere", "/admin", "/docs/", "/.env", "/v1", "/tasks/t/versions/1/prompt/x")


def shown(key: bytes) -> bytes:
    return request(b"/tasks", b"Authorization: " + key)


@pytest.mark.parametrize(
    "key",
    [None, b"", b"Bearer", b"Bearer ", b"Basic " + API_KEY.encode(), b"Bearer  " + API_KEY.encode(), API_KEY.encode()],
)
def test_H01_no_key(locked: Edge, key: bytes | None) -> None:
    """Every way to have none is the same answer, which says how a key is shown."""
    answer = locked.refused(request(b"/tasks") if key is None else shown(key), 401, "invalid_api_key", closes=False)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "key", ["schlüssel-0123456789".encode(), b"\xff\xfe", b"\x80" * 100, API_KEY.encode() + b"\xa0"]
)
def test_H02_bytes_that_are_no_text(locked: Edge, key: bytes) -> None:
    """Compared as bytes, like any other."""
    locked.refused(shown(b"Bearer " + key), 401, "invalid_api_key", closes=False)


@pytest.mark.parametrize(("first", "second"), [(API_KEY, API_KEY), (API_KEY, "x"), ("x", API_KEY)])
def test_H03_two_keys(locked: Edge, first: str, second: str) -> None:
    """Neither the first nor the last counts."""
    sent = [b"Authorization: Bearer " + key.encode() for key in (first, second)]
    locked.refused(request(b"/tasks", *sent), 400, "invalid_request", closes=False)


def test_H04_a_key_without_end(locked: Edge) -> None:
    """Refused by its size, before anybody compares it."""
    locked.refused(shown(b"Bearer " + b"a" * 2**20), 431, "headers_too_large", closes=True)


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for (method, path), needed in TABLE.items() if needed is Access.ADMIN]
)
def test_H05_a_right_too_small(locked: Edge, method: str, path: str) -> None:
    """Who may generate may change nothing, and does not learn what there is to change."""
    target = path.format_map(NAMES).encode()
    sent = request(target, b"Authorization: Bearer " + API_KEY.encode(), method=method.encode())
    locked.refused(sent, 403, "insufficient_scope", closes=False)


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "Authorization", "authorization"])
def test_H06_a_key_in_the_URL(locked: Edge, name: str) -> None:
    """It opens nothing, and is in no line of the log."""
    for key in (ADMIN_KEY, f"Bearer%20{ADMIN_KEY}"):
        locked.refused(request(f"/tasks?{name}={key}".encode()), 401, "invalid_api_key", closes=False)
    assert ADMIN_KEY not in json.dumps(locked.log, default=str)


def compared(keys: Keys, key: str) -> int:
    """How many comparisons in constant time one key costs."""
    called: list[Any] = []
    sys.setprofile(lambda _, event, what: called.append(what) if event == "c_call" else None)
    try:
        keys.caller(key.encode())
    finally:
        sys.setprofile(None)
    return sum(what is hmac.compare_digest for what in called)


@pytest.mark.parametrize("key", ["x", API_KEY[:-1], API_KEY[:-1] + "x", "x" + API_KEY[1:], API_KEY + "x"])
def test_H07_a_key_that_begins_like_one(locked: Edge, key: str) -> None:
    """Hashes are compared, in constant time, with every key that is known, whatever came of the others."""
    locked.refused(shown(b"Bearer " + key.encode()), 401, "invalid_api_key", closes=False)
    keys = Keys(locked.site.desk.settings)
    assert [compared(keys, tried) for tried in (key, API_KEY, ADMIN_KEY)] == [2] * 3


def test_H08_every_door(locked: Edge) -> None:
    """Each route, with every method, and what is no route: closed, but for what the table calls open."""
    caller, paths = Caller(locked.site), sorted({path for _, path in TABLE})
    assert {(401, "invalid_api_key"), (200, "")} == locked.row.answers
    for path in (*paths, *UNKNOWN):
        for method in METHODS:
            status, body = caller.ask(method, path.format_map(NAMES), "no key")
            if TABLE.get((method, path)) is OPEN:
                assert status == 200 or (path.startswith("/static/") and status == 404), (method, path)
            else:
                assert status == 401, (method, path)
                assert method == "HEAD" or json.loads(body)["error"]["code"] == "invalid_api_key"
    caller.close()
