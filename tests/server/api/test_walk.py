"""Every route and method of the running application, asked with every key: nobody gets further than the table says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.api.auth import Access
from tests.checkout import ROOT
from tests.server.api.walk import (
    ADMIN_KEY,
    API_KEY,
    KEYS,
    METHODS,
    NAMES,
    OPEN,
    SHOWN,
    TABLE,
    Caller,
    refusal,
    table,
)
from tests.server.site import Site, connect
from tests.server.site import site as running

PATHS = sorted({path for _, path in TABLE})
SHELL = {"/", "/docs", "/static/{name}", "/static/vendor/{name}"}
"""Open, and whoever asks for another name there is told that there is none."""
UNKNOWN = ("/nowhere", "/admin", "/docs/", "/.env", "/v1", "/tasks/t/versions/1/prompt/x")
NAMED = {"open": Access.OPEN, "generate": Access.GENERATE, "admin": Access.ADMIN}


@pytest.fixture(scope="module")
def closed(base_folder: Path) -> Iterator[Site]:
    with running(base_folder, "memory://", **KEYS) as found:
        found.http.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        found.publish("t", "{text}")
        del found.http.headers["Authorization"]
        yield found


@pytest.fixture
def caller(closed: Site) -> Iterator[Caller]:
    found = Caller(closed)
    yield found
    found.close()


def test_every_route_stands_in_the_table(closed: Site) -> None:
    """And nothing else does: a new route has its access written down before it is served."""
    assert sorted(table(closed)) == sorted(TABLE)


def test_the_table_is_documented() -> None:
    """docs/security.md has the same rows in the same order."""
    lines = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    documented = {tuple(row[0].split(" ")): NAMED[row[1]] for row in cells if row[1] in NAMED}
    assert list(documented.items()) == list(TABLE.items())


@pytest.mark.parametrize("path", [*PATHS, *UNKNOWN])
def test_a_key_opens_what_the_table_says_and_nothing_else(caller: Caller, path: str) -> None:
    """Refused with the one status there is for it, or let in; what is no route is refused to strangers alike."""
    for method in METHODS:
        needed = TABLE.get((method, path))
        for shown in SHOWN:
            status, _ = caller.ask(method, path.format_map(NAMES), shown)
            wanted = refusal(shown, needed)
            told = f"{method} {path} with {shown}: {status}"
            if wanted is not None:
                assert status == wanted, told
            elif needed is None:
                assert status in {400, 404, 405}, told
            else:
                assert status not in {401, 403, 404 if path == "/tasks/{task}" and method == "GET" else 405}, told


def spelt(path: str) -> Iterator[str]:
    """The path in ways that some servers take for the same."""
    yield from ("/" + path, path + "/", path + "//", "/." + path, "/x/.." + path, path + "/.", path + "/../..")
    yield from ("/" + path.replace("/", separator) for separator in ("%2f", "//", "/%2e/", "\\", "%5c"))
    yield from (
        path.upper(),
        path.title(),
        f"/%{ord(path[1]):02x}{path[2:]}",
        path + ";x=1",
        path + "%20",
        path + "%00",
    )
    yield from ("/livez/.." + path, "/livez%2f.." + path, "/livez/%2e%2e" + path, "/livez;" + path, "/livez" + path)


@pytest.mark.parametrize("path", [path for path in PATHS if path not in SHELL])
def test_no_spelling_leads_around_a_key(caller: Caller, path: str) -> None:
    """Doubled, encoded and trailing slashes, case, dot segments, parameters: to strangers 401, and never a probe's
    freedom; the generate key gets no further on a path that needs the admin key."""
    methods = [method for method, known in TABLE if known == path]
    for spelling in spelt(path.format_map(NAMES)):
        for method in methods:
            for shown in ("no key", "wrong key", "empty"):
                assert caller.ask(method, spelling, shown)[0] == 401, f"{method} {spelling} with {shown}"
            if TABLE[method, path] is Access.ADMIN:
                assert caller.ask(method, spelling, "generate")[0] in {400, 403, 404, 405}, f"{method} {spelling}"


def test_a_target_that_is_no_path_leads_nowhere(closed: Site) -> None:
    """A proxy's form and `*`, with whatever key."""
    for target in (closed.url + "/tasks", closed.url + "/livez", "*"):
        for shown in ("no key", "generate", "admin"):
            caller = Caller(closed)
            assert caller.ask("GET", target, shown)[0] == 400
            caller.close()


BROKEN = [("Content-Type", "text/xml"), ("Content-Length", "1000000000"), ("If-Match", "?"), ("Content-Digest", "?")]
QUERY = "?limit=banana&unknown=1&min_version=-1"


@pytest.mark.parametrize("path", PATHS)
def test_a_key_is_asked_for_before_anything_else_is_looked_at(caller: Caller, path: str) -> None:
    """A query, headers and a body that are all wrong, too large and never sent: the refusal is the same to the byte."""
    for method in (method for method, known in TABLE if known == path and TABLE[method, known] is not OPEN):
        _, plain = caller.ask("GET", "/nowhere", "no key")
        assert caller.ask(method, path.format_map(NAMES) + QUERY, "no key", BROKEN) == (401, plain)
        if TABLE[method, path] is Access.ADMIN:
            status, body = caller.ask(method, path.format_map(NAMES) + QUERY, "generate", BROKEN)
            assert (status, b"insufficient_scope" in body) == (403, True)


def test_strangers_cannot_tell_what_there_is(caller: Caller) -> None:
    """A task that is there, one that is not, one that cannot be: one answer."""
    for suffix in ("", "/versions", "/versions/1", "/versions/99", "/versions/x", "/versions/1/prompt", "/nearest"):
        answers = {caller.ask("GET", f"/tasks/{name}{suffix}", "no key") for name in ("t", "absent", "-", "%00")}
        assert len(answers) == 1, suffix
    assert len({caller.ask("PUT", f"/tasks/{name}", "wrong key") for name in ("t", "absent", "-", "a/b")}) == 1


def test_a_refused_body_is_not_asked_for(closed: Site) -> None:
    """Who waits for 100 Continue is refused instead, and has sent nothing."""
    lines = ["PUT /tasks/t HTTP/1.1", "Host: localhost", "Expect: 100-continue", "Content-Length: 60000000"]
    for line, wanted in (([], b"401"), ([f"Authorization: Bearer {API_KEY}"], b"403")):
        with connect(closed.url) as connection:
            connection.sendall("\r\n".join([*lines, *line, "", ""]).encode())
            assert connection.recv(4096).split(b" ")[1] == wanted
