"""Keys: default-deny on every route, rights, and headers that are none."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.api.auth import Access, needed
from server.app import routes
from tests.server.site import Site, raw, status
from tests.server.site import site as running

API_KEY = "generate-0123456789"
SECOND_KEY = "generate-9876543210"
ADMIN_KEY = "admin-0123456789abc"
OPEN = {"/livez", "/readyz", "/startupz", "/health"}
NAMES = {"task": "t", "version": "1", "file": "f", "job": "j", "model": "t"}
"""Of a path's parts."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def closed(base_folder: Path) -> Iterator[Site]:
    keys = {"api_key": f"{API_KEY},{SECOND_KEY}", "admin_key": ADMIN_KEY}
    with running(base_folder, "memory://", **keys) as found:
        yield found


def call(site: Site, method: str, path: str, key: str | None = None, **more: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return site.http.request(method, path, headers=headers, **more)  # type: ignore[arg-type]  # httpx's keywords


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", sorted({route.path for route in routes()} | {"/docs", "/metrics", "/x", "/x/y"}))
def test_nothing_but_the_probes_answers_without_a_key(closed: Site, method: str, path: str) -> None:
    """Every route, every method: 401, or 404 and 405, which hold no data."""
    answer = call(closed, method, path.format_map(NAMES))
    if method == "GET" and path in OPEN:
        assert answer.status_code == 200
    else:
        assert answer.status_code in {401, 404, 405}


def test_only_the_probes_are_declared_open() -> None:
    """And a route that declares nothing needs the admin key."""
    assert {route.path for route in routes() if needed(route.endpoint) is Access.OPEN} == OPEN
    assert needed(lambda: None) is Access.ADMIN


def test_every_changing_route_and_what_rows_are_seen_by_needs_the_admin_key(closed: Site) -> None:
    """The generate key is refused with 403, before any body is read; no key with 401."""
    changing = {(m, r.path) for r in routes() for m in r.methods or () if needed(r.endpoint) is Access.ADMIN}
    assert changing == {
        ("PUT", "/tasks/{task}"),
        ("PATCH", "/tasks/{task}"),
        ("DELETE", "/tasks/{task}"),
        ("POST", "/tasks/{task}/rollback"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/{file}"),
        ("GET", "/v1/files/{file}/content"),
        ("DELETE", "/v1/files/{file}"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/fine_tuning/jobs/{job}"),
        ("POST", "/v1/fine_tuning/jobs/{job}/cancel"),
        ("GET", "/v1/fine_tuning/jobs/{job}/events"),
        ("GET", "/v1/fine_tuning/jobs/{job}/checkpoints"),
    }
    for method, path in changing:
        answer = call(closed, method, path.format_map(NAMES), API_KEY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")


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
