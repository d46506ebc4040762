"""A stream of server-sent events as it arrives in pieces. Knows the protocol's lines; reads no socket."""

import json

import httpx

from softprompt_client.answers import StreamEvent
from softprompt_client.errors import BAD_ANSWER, SoftpromptError, told


class Events:
    """Of one response. Lines end at LF alone: inside of a text other characters that end lines may stand."""

    def __init__(self, response: httpx.Response) -> None:
        self._request_id = response.headers.get("x-request-id")
        self._rest = b""
        self._whole = False

    def feed(self, piece: bytes) -> list[StreamEvent]:
        """The events that have become whole. Raises SoftpromptError for one that is an error."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [self._event(line) for line in lines if line.startswith(b"data:")]

    def end(self) -> None:
        """Raises SoftpromptError if the last event has not come."""
        if not self._whole:
            raise self._bad("the stream ended before its answer")

    def _event(self, line: bytes) -> StreamEvent:
        try:
            event = json.loads(line.removeprefix(b"data:"))
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict) and isinstance(event.get("error"), dict):
            raise told(event["error"], self._request_id)
        if not (isinstance(event, dict) and isinstance(event.get("token"), dict)):
            raise self._bad("the stream holds what is no event: is this a softprompt server?")
        self._whole = isinstance(event.get("details"), dict)
        found: StreamEvent = event  # type: ignore[assignment]  # as much of it as is looked at
        return found

    def _bad(self, what: str) -> SoftpromptError:
        return SoftpromptError(what, code=BAD_ANSWER, request_id=self._request_id)
