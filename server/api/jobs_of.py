"""The application's jobs, for the routes that need them. Knows where they are kept."""

from starlette.requests import Request

from server.errors import Unavailable
from server.jobs.desk import Jobs


def jobs_of(request: Request) -> Jobs:
    """Raises Unavailable, with the reason, where this server learns nothing."""
    found = request.app.state.jobs
    if isinstance(found, Jobs):
        return found
    raise Unavailable("jobs_unavailable", found.reason)
