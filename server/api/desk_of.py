"""The application's desk, for the routes that need it. Knows where it is kept."""

from starlette.requests import Request

from server.publish import Desk


def desk_of(request: Request) -> Desk:
    """Built once, at the start."""
    desk: Desk = request.app.state.desk
    return desk
