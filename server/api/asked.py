"""What is to be generated or scored, as far as all such routes begin alike. Knows callers and whether there is room."""

from typing import Any

from starlette.requests import Request

from server.api.auth import caller_of
from server.api.body import read_json
from server.api.desk_of import desk_of


async def read_question(request: Request) -> Any:
    """The body's JSON value. Who would find no room to wait is told so before it is read: a crowd costs little then."""
    desk_of(request).room.running.check_room(caller_of(request))
    return await read_json(request)
