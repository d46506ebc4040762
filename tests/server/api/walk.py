"""Who may call what: the one table, and a walk that tries every key on every route and method of a running server.

`python -m tests.server.api.walk` prints what each key is answered.
"""

import http.client
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import structlog
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from transformers.utils.logging import disable_progress_bar

from server.api.auth import Access
from tests.models import save
from tests.server.site import PATIENCE, Site
from tests.server.site import site as running

API_KEY = "generate-0123456789"
SECOND_KEY = "generate-9876543210"
ADMIN_KEY = "admin-0123456789abc"
SECOND_ADMIN_KEY = "admin-cba9876543210"
KEYS = {"api_key": f"{API_KEY},{SECOND_KEY}", "admin_key": f"{ADMIN_KEY}, {SECOND_ADMIN_KEY}"}

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
NAMES = {"task": "t", "version": "1", "file": "f", "job": "j", "model": "t", "name": "page.js"}
"""Of a path's parts."""
WRONG = 401
SHOWN: Mapping[str, tuple[Sequence[str], Access | int]] = {
    "no key": ((), WRONG),
    "wrong key": (("Bearer generate-0123456788",), WRONG),
    "empty": (("Bearer ",), WRONG),
    "Basic": ((f"Basic {ADMIN_KEY}",), WRONG),
    "two keys": ((f"Bearer {ADMIN_KEY}", f"Bearer {API_KEY}"), 400),
    "two in one": ((f"Bearer {ADMIN_KEY}, {API_KEY}",), WRONG),
    "generate": ((f"Bearer {API_KEY}",), Access.GENERATE),
    "2nd generate": ((f"Bearer {SECOND_KEY}",), Access.GENERATE),
    "admin": ((f"Bearer {ADMIN_KEY}",), Access.ADMIN),
    "2nd admin": ((f"Bearer {SECOND_ADMIN_KEY}",), Access.ADMIN),
}
"""What a client may show: its Authorization headers, and the right they give or the status they are refused with."""

OPEN, GENERATE, ADMIN = Access.OPEN, Access.GENERATE, Access.ADMIN
TABLE: Mapping[tuple[str, str], Access] = {
    ("POST", "/generate"): GENERATE,
    ("POST", "/generate_stream"): GENERATE,
    ("POST", "/classify"): GENERATE,
    ("POST", "/render"): GENERATE,
    ("PUT", "/tasks/{task}"): ADMIN,
    ("PATCH", "/tasks/{task}"): ADMIN,
    ("GET", "/tasks"): GENERATE,
    ("GET", "/tasks/{task}"): GENERATE,
    ("GET", "/tasks/{task}/versions"): GENERATE,
    ("GET", "/tasks/{task}/versions/{version}"): GENERATE,
    ("GET", "/tasks/{task}/versions/{version}/prompt"): GENERATE,
    ("GET", "/tasks/{task}/nearest"): GENERATE,
    ("POST", "/tasks/{task}/rollback"): ADMIN,
    ("DELETE", "/tasks/{task}"): ADMIN,
    ("POST", "/v1/completions"): GENERATE,
    ("POST", "/v1/chat/completions"): GENERATE,
    ("GET", "/v1/models"): GENERATE,
    ("GET", "/v1/models/{model}"): GENERATE,
    ("POST", "/tokenize"): GENERATE,
    ("POST", "/detokenize"): GENERATE,
    ("GET", "/tokenizer_info"): GENERATE,
    ("POST", "/v1/files"): ADMIN,
    ("GET", "/v1/files"): ADMIN,
    ("GET", "/v1/files/{file}"): ADMIN,
    ("GET", "/v1/files/{file}/content"): ADMIN,
    ("DELETE", "/v1/files/{file}"): ADMIN,
    ("POST", "/v1/fine_tuning/jobs"): ADMIN,
    ("GET", "/v1/fine_tuning/jobs"): ADMIN,
    ("GET", "/v1/fine_tuning/jobs/{job}"): ADMIN,
    ("POST", "/v1/fine_tuning/jobs/{job}/cancel"): ADMIN,
    ("GET", "/v1/fine_tuning/jobs/{job}/events"): ADMIN,
    ("GET", "/v1/fine_tuning/jobs/{job}/checkpoints"): ADMIN,
    ("GET", "/livez"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/startupz"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/ping"): GENERATE,
    ("GET", "/version"): GENERATE,
    ("GET", "/info"): GENERATE,
    ("GET", "/metrics"): GENERATE,
    ("GET", "/openapi.json"): GENERATE,
    ("GET", "/"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/static/{name}"): OPEN,
    ("GET", "/static/vendor/{name}"): OPEN,
    ("GET", "/page/tasks"): GENERATE,
    ("GET", "/page/tasks/{task}"): GENERATE,
    ("GET", "/page/tasks/{task}/nearest"): GENERATE,
    ("GET", "/page/pane"): GENERATE,
    ("GET", "/page/jobs"): ADMIN,
    ("GET", "/page/jobs/{job}"): ADMIN,
}


def table(site: Site) -> Iterator[tuple[str, str]]:
    """(method, path) of whatever the running application routes to; `*` where a route takes any method."""
    app: object = site.app
    while not isinstance(app, FastAPI):
        app = app.app  # type: ignore[attr-defined]  # what wraps an application names it so
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ("*",):
            yield method, route.path or "?"


def refusal(shown: str, needed: Access | None) -> int | None:
    """The status a client is refused with; None for one that is let in. `needed` None: there is no such route."""
    _, right = SHOWN[shown]
    if needed is OPEN:
        return None
    if not isinstance(right, Access):
        return right
    return 403 if needed is not None and right < needed else None


class Caller:
    """One kept connection, on which a request is sent as it is told: nothing is normalised, no body follows."""

    def __init__(self, site: Site) -> None:
        address = httpx.URL(site.url)
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)

    def ask(self, method: str, target: str, shown: str, headers: Sequence[tuple[str, str]] = ()) -> tuple[int, bytes]:
        """Status and body."""
        self._connection.putrequest(method, target, skip_accept_encoding=True)
        for value in SHOWN[shown][0]:
            self._connection.putheader("Authorization", value)
        for name, value in headers:
            self._connection.putheader(name, value)
        self._connection.endheaders()
        answer = self._connection.getresponse()
        body = answer.read()
        if headers:  # a body was announced that never comes
            self._connection.close()
        return answer.status, body

    def close(self) -> None:
        self._connection.close()


def main() -> None:
    """One line for each route and method: the status of each client."""
    disable_progress_bar()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory() as folder, running(save(Path(folder)), "memory://", **KEYS) as site:
        caller = Caller(site)
        sys.stdout.write(f"{'':44}" + "".join(f"{shown:>13}" for shown in SHOWN) + "\n")
        for method, path in (*TABLE, ("GET", "/nowhere")):
            statuses = [caller.ask(method, path.format_map(NAMES), shown)[0] for shown in SHOWN]
            sys.stdout.write(f"{method:7}{path:37}" + "".join(f"{status:13}" for status in statuses) + "\n")
        caller.close()


if __name__ == "__main__":
    main()
