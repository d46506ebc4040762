"""The one exception of the client: what the server said was wrong, or that it said nothing.

Knows responses and httpx's own errors; no routes.
"""

from typing import Any

import httpx

NO_ANSWER = "no_answer"
"""The code where no server spoke: nobody listens, the connection broke, the time was over."""
BAD_ANSWER = "bad_answer"
"""The code where something spoke that is no softprompt server, or only half of an answer came."""
TRY_AGAIN = frozenset({429, 503})
"""Statuses that ask for the same request again, and say when."""


class SoftpromptError(Exception):
    """`status`: HTTP's, None where no answer came and inside of a stream; `code` as docs/errors.md has it.

    `param` names the field at fault. `retryable`: the same again may go well. `request_id` finds the request in the
    server's log.
    """

    def __init__(  # noqa: PLR0913 - one argument for each thing that the server says
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = NO_ANSWER,
        param: str | None = None,
        retryable: bool = False,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.retryable = retryable
        self.request_id = request_id

    def __str__(self) -> str:
        said = f"{self.code}: {self.message}"
        return said if self.status is None else f"{self.status} {said}"


def refused(response: httpx.Response) -> SoftpromptError:
    """What a response says that is no success; its body has been read."""
    told = _error_of(response)
    asked_again = response.headers.get("x-should-retry")
    return SoftpromptError(
        str(told.get("message") or response.reason_phrase or "no reason given"),
        status=response.status_code,
        code=told["code"] if told else f"http_{response.status_code}",
        param=told.get("param"),
        retryable=response.status_code in TRY_AGAIN if asked_again is None else asked_again == "true",
        request_id=response.headers.get("x-request-id"),
    )


def unheard(error: httpx.RequestError, *, retryable: bool) -> SoftpromptError:
    """No answer came, or one that is not encoded as it says."""
    code = BAD_ANSWER if isinstance(error, httpx.DecodingError) else NO_ANSWER
    return SoftpromptError(str(error) or type(error).__name__, code=code, retryable=retryable)


def garbled(response: httpx.Response, what: str) -> SoftpromptError:
    """An answer came that is none."""
    return SoftpromptError(
        what, status=response.status_code, code=BAD_ANSWER, request_id=response.headers.get("x-request-id")
    )


def told(error: dict[str, Any], request_id: str | None) -> SoftpromptError:
    """An error that stands where an answer was wanted: in an item of many, or as the last event of a stream."""
    message, code = str(error.get("message", "")), str(error.get("code", BAD_ANSWER))
    return SoftpromptError(message, code=code, param=error.get("param"), request_id=request_id)


def _error_of(response: httpx.Response) -> dict[str, Any]:
    """An error of the contract's shape, with a `code`; empty for what somebody else says."""
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) and isinstance(error.get("code"), str) else {}
