"""Which pages of other origins may call the server: none, unless an allow-list names them.

Knows origins and Starlette's middleware; no routes, no keys. An origin that is not listed is answered as if there were
no list: whether there is one is nobody else's business.
"""

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
EXPOSED = ("x-request-id", "x-operation-id", "x-should-retry", "ETag", "Location", "Retry-After", "Content-Digest")
"""What a page may read beside the body."""
PREFLIGHT_SECONDS = 600
ANY = "*"
READING = ("GET", "HEAD", "OPTIONS")
SAID = (b"sec-fetch-site", b"origin", b"host")


def forged(scope: Scope, origins: Collection[str]) -> bool:
    """Whether a browser sends a change for a page of another origin, which may send forms without asking first.

    `Sec-Fetch-Site` is the browser's own word; where it says nothing (plain http to a name that is not this
    machine's), the origin has to be the very host that is asked.
    """
    if scope["method"] in READING:
        return False
    said = {name: value.decode("latin-1") for name, value in scope["headers"] if name in SAID}
    site, origin = said.get(b"sec-fetch-site"), said.get(b"origin")
    if origin in origins or ANY in origins:
        return False
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and origin.partition("://")[2] != said.get(b"host")


class CrossOrigin:
    """Wraps the application. Keys are headers and no cookies, so credentials are never allowed."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app = app
        self._origins = {origin.encode() for origin in origins}
        self._listed = CORSMiddleware(
            app,
            allow_origins=tuple(origins),
            allow_methods=METHODS,
            allow_headers=(ANY,),
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._may_call(scope):
            await self._listed(scope, receive, send)
            return
        if not self._origins:
            await self.app(scope, receive, send)
            return

        async def vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"vary", b"Origin")]
            await send(message)

        await self.app(scope, receive, vary)

    def _may_call(self, scope: Scope) -> bool:
        """A listed origin, and in a preflight a method that there is."""
        given = [value for name, value in scope["headers"] if name == b"origin"]
        if len(given) != 1 or not ({given[0], ANY.encode()} & self._origins):
            return False
        asked = [value for name, value in scope["headers"] if name == b"access-control-request-method"]
        return scope["method"] != "OPTIONS" or not asked or asked[0].decode("latin-1") in METHODS
