"""Keys: default-deny on every route, rights, and headers that are none."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.site import Site, raw, status
from tests.server.site import site as running

API_KEY = "generate-0123456789"
SECOND_KEY = "generate-9876543210"
ADMIN_KEY = "admin-0123456789abc"
NAMES = {"task": "t", "version": "1", "file": "f", "job": "j", "model": "t"}
"""Of a path's parts."""


@pytest.fixture(scope="module")
def closed(base_folder: Path) -> Iterator[Site]:
    keys = {"api_key": f"{API_KEY},{SECOND_KEY}", "admin_key": ADMIN_KEY}
    with running(base_folder, "memory://", **keys) as found:
        yield found


def call(site: Site, method: str, path: str, key: str | None = None, **more: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return site.http.request(method, path, headers=headers, **more)  # type: ignore[arg-type]  # httpx's keywords


def test_the_admin_key_may_do_everything(closed: Site) -> None:
    """Admin includes generate."""
    assert call(closed, "PUT", "/tasks/t", ADMIN_KEY, json={"template": "{text}"}).status_code == 201
    for key in (API_KEY, SECOND_KEY, ADMIN_KEY):
        body = {"task": "t", "inputs": "x", "parameters": {"max_new_tokens": 1}}
        assert call(closed, "POST", "/generate", key, json=body).status_code == 200
        assert call(closed, "GET", "/tasks", key).status_code == 200
    assert call(closed, "DELETE", "/tasks/t", ADMIN_KEY).status_code == 204


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + API_KEY.encode(),
        b"Bearer  " + API_KEY.encode(),
        b"Bearer " + API_KEY[:-1].encode(),
        b"Bearer " + API_KEY.encode() + b"0",
        "Bearer schlüssel-0123456789".encode(),
        b"Bearer \xff\xfe",
        API_KEY.encode(),
    ],
)
def test_what_is_no_key_of_ours_is_401(closed: Site, header: bytes) -> None:
    """Empty, other schemes, two spaces, prefixes, bytes that are no ASCII: never a 500."""
    request = b"GET /tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + header + b"\r\n\r\n"
    answer = raw(closed.url, request)
    assert status(answer) == 401
    assert b"www-authenticate: bearer" in answer.lower()


def test_the_scheme_is_read_in_any_case(closed: Site) -> None:
    """RFC 9110: schemes are case-insensitive."""
    answer = closed.http.get("/tasks", headers={"Authorization": f"bearer {API_KEY}"})
    assert answer.status_code == 200


def test_two_authorizations_are_refused(closed: Site) -> None:
    """Which one counts is not guessed."""
    request = f"GET /tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\nAuthorization: x\r\n\r\n"
    assert status(raw(closed.url, request.encode())) == 400


def test_a_key_in_the_query_opens_nothing(closed: Site) -> None:
    """Queries end up in logs."""
    for name in ("key", "api_key", "authorization"):
        assert closed.http.get(f"/info?{name}={API_KEY}").status_code == 401


def test_a_closed_server_does_not_read_what_it_refuses(closed: Site) -> None:
    """A body that never comes does not hold a request without a key."""
    request = b"PUT /tasks/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    started = time.monotonic()
    assert status(raw(closed.url, request)) == 401
    assert time.monotonic() - started < closed.desk.settings.receive_seconds


def test_one_kind_of_key_closes_both(base_folder: Path) -> None:
    """With an admin key alone, generating needs it too."""
    with running(base_folder, "memory://", admin_key=ADMIN_KEY) as site:
        assert call(site, "GET", "/tasks").status_code == 401
        assert call(site, "GET", "/tasks", ADMIN_KEY).status_code == 200
