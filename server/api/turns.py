"""Of those who come for the engine one begins in a turn of the loop: hundreds at once stop nobody else.

The first steps of a request, from routing to the thread that renders, are a millisecond in one piece. Knows the
protocol and who has a place; no routes.
"""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from server.place import PLACE


class InTurn:
    """Wraps the application, behind whoever counts what is being answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._begins = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if PLACE in scope:
            await self._begins.acquire()  # in the order they came
            asyncio.get_running_loop().call_soon(self._begins.release)
        await self.app(scope, receive, send)
