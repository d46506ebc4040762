"""Pages of other origins: nothing without a list; with one, only those on it, and they can read every answer."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.api.cors import EXPOSED, METHODS
from tests.server.api.walk import ADMIN_KEY, API_KEY, KEYS
from tests.server.site import Site
from tests.server.site import site as running

LISTED, OTHER = "https://app.example", "https://app.example:8443"
PATHS = ("/tasks", "/generate", "/livez", "/nowhere", "/tasks/t")


@pytest.fixture(scope="module")
def listing(base_folder: Path) -> Iterator[Site]:
    with running(base_folder, "memory://", cors_origins=f"{LISTED}, http://localhost:3000", **KEYS) as found:
        yield found


def preflight(
    site: Site, path: str, origin: str, method: str = "POST", headers: str = "authorization"
) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return site.http.options(path, headers=asked)


def cross_origin(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control")}


@pytest.mark.parametrize("path", PATHS)
def test_without_a_list_nothing_is_said(site: Site, path: str) -> None:
    """No header at all, and OPTIONS is a method like others that a route has not."""
    answer = preflight(site, path, LISTED)
    assert answer.status_code == (404 if path == "/nowhere" else 405)
    for one in (answer, site.http.get(path, headers={"Origin": LISTED})):
        assert not cross_origin(one)
        assert "vary" not in one.headers


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    "said",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_foreign_page_changes_nothing_where_there_are_no_keys(site: Site, said: dict[str, str]) -> None:
    """A form needs no preflight: what a browser says of the page is looked at. Reading is the browser's to refuse."""
    for method, path in (("POST", "/v1/files"), ("POST", "/v1/fine_tuning/jobs/x/cancel"), ("DELETE", "/tasks/x")):
        answer = site.http.request(method, path, headers=FORM | said)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin"), path
    assert site.http.get("/tasks", headers=said).status_code == 200


def test_the_servers_own_page_and_programs_change_things(site: Site, base_folder: Path) -> None:
    """Same origin, by the browser's word or by its host; a program says nothing; a listed origin may as well."""
    own = {"Origin": site.url}
    for said in ({}, own, own | {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert site.http.delete("/tasks/absent", headers=said).json()["error"]["code"] == "task_not_found"
    with running(base_folder, "memory://", cors_origins=LISTED) as listing:
        for site_word in ({}, {"Sec-Fetch-Site": "cross-site"}):
            answer = listing.http.delete("/tasks/absent", headers={"Origin": LISTED} | site_word)
            assert answer.json()["error"]["code"] == "task_not_found"


def test_a_key_is_proof_enough(listing: Site) -> None:
    """No page of others can add one."""
    headers = {"Origin": OTHER, "Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {ADMIN_KEY}"}
    assert listing.http.delete("/tasks/absent", headers=headers).json()["error"]["code"] == "task_not_found"


@pytest.mark.parametrize("origin", [LISTED, "http://localhost:3000"])
@pytest.mark.parametrize("path", PATHS)
def test_a_preflight_needs_no_key(listing: Site, path: str, origin: str) -> None:
    """Browsers send none with it. It allows every method and header that a client may want, and never credentials."""
    for method in METHODS:
        answer = preflight(listing, path, origin, method, "authorization, if-match, x-stainless-lang")
        assert answer.status_code == 200
        assert cross_origin(answer) == {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": ", ".join(METHODS),
            "access-control-allow-headers": "authorization, if-match, x-stainless-lang",
            "access-control-max-age": "600",
        }
        assert "origin" in answer.headers["vary"].lower()
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", [OTHER, "http://app.example", "https://APP.example", "null", "*", f"{LISTED}.evil", ""]
)
def test_who_is_not_listed_is_answered_as_without_a_list(listing: Site, origin: str) -> None:
    """A preflight is a request without a key; nothing tells an allowed page's name, or that there is a list."""
    assert preflight(listing, "/tasks", origin).status_code == 401
    key = {"Authorization": f"Bearer {API_KEY}"}
    for answer in (
        preflight(listing, "/tasks", origin),
        listing.http.get("/tasks", headers={"Origin": origin, **key}),
        listing.http.get("/tasks", headers=key),
    ):
        assert not cross_origin(answer)
        assert answer.headers["vary"] == "Origin"


def test_a_method_that_there_is_not_is_not_allowed(listing: Site) -> None:
    """The one error shape, as elsewhere."""
    answer = preflight(listing, "/tasks", LISTED, "TRACE")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_listed_page_reads_answers_and_errors(listing: Site) -> None:
    """200, 401, 403, 404, 405, and what the guard refuses before anything is routed: the page can say why."""
    admin, generate = ({"Authorization": f"Bearer {key}", "Origin": LISTED} for key in (ADMIN_KEY, API_KEY))
    stranger = {"Origin": LISTED}
    asked = [
        (200, listing.http.get("/tasks", headers=generate)),
        (201, listing.http.put("/tasks/read", headers=admin, json={"template": "{text}"})),
        (401, listing.http.get("/tasks", headers=stranger)),
        (403, listing.http.delete("/tasks/read", headers=generate)),
        (404, listing.http.get("/tasks/absent", headers=generate)),
        (405, listing.http.post("/livez", headers=generate)),
        (400, listing.http.post("/generate", headers=generate, json={"inputs": 1})),
        (400, listing.http.get("/livez", headers={**stranger, "Host": "evil.example"})),
        (415, listing.http.get("/livez", headers={**stranger, "Content-Encoding": "gzip"})),
    ]
    for status, answer in asked:
        assert answer.status_code == status
        found = cross_origin(answer)
        assert found == {"access-control-allow-origin": LISTED, "access-control-expose-headers": ", ".join(EXPOSED)}
        assert answer.headers["vary"] == "Origin"
    for name in ("x-request-id", "x-operation-id", "etag", "location", "retry-after"):
        assert name in {exposed.lower() for exposed in EXPOSED}


def test_a_listed_page_reads_streams(listing: Site) -> None:
    """The headers come with the first byte."""
    headers = {"Authorization": f"Bearer {API_KEY}", "Origin": LISTED}
    body = {"inputs": "play", "parameters": {"max_new_tokens": 3, "ignore_eos": True}}
    with listing.http.stream("POST", "/generate_stream", headers=headers, json=body) as answer:
        assert answer.headers["access-control-allow-origin"] == LISTED
        assert len([line for line in answer.iter_lines() if line]) == 3


def test_a_list_opens_no_other_host(listing: Site) -> None:
    """A preflight under a name that is not this server's is refused like everything else."""
    headers = {"Origin": LISTED, "Access-Control-Request-Method": "POST", "Host": "evil.example"}
    answer = listing.http.options("/generate", headers=headers)
    assert answer.status_code == 400
    assert not cross_origin(answer)


def test_every_origin_may_call_where_that_is_said(base_folder: Path) -> None:
    """The wildcard is answered as such: no origin is mirrored, nothing is let in without a key."""
    with running(base_folder, "memory://", cors_origins="*", **KEYS) as site:
        assert cross_origin(preflight(site, "/tasks", OTHER))["access-control-allow-origin"] == "*"
        answer = site.http.get("/tasks", headers={"Origin": OTHER})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")
