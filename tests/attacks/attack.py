"""One abuse, and what holds for every refusal, checked in one place: `Attack.watched`.

Knows requests and answers; the abuse itself is the test's.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NamedTuple

import httpx

from tests.attacks.table import Row
from tests.attacks.victim import ASKED, TARGET, UPLOAD_LIMIT, Victim
from tests.server.site import until

SWEPT_SECONDS = 1.0
SLACK = 32 * 2**20
"""Bytes above the largest upload that a refusal may cost."""
LONGEST_ANSWER = 4096
REPEATED = re.compile(rb"[\x20-\x7e]{16,}")
"""What would be seen if it stood in an answer or in the log."""
EDGE = 4096
NUMBERS = count(1)
JSON: Mapping[str, str] = {"Content-Type": "application/json"}


class Sent(NamedTuple):
    """A request that is to be refused: its id, the status in its line of the log, what it carried."""

    id: str
    status: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Attack:
    """Of one row, on one server."""

    victim: Victim
    row: Row

    def on(self, victim: Victim) -> "Attack":
        """The same on a server with other settings."""
        return replace(self, victim=victim)

    def refused(self, status: int, code: str, data: bytes = b"", *, task: str = TARGET, **sent: Any) -> dict[str, Any]:
        """Sends an upload, or with `method` another request below the task, and returns the error that must come."""
        with self.unharmed(status, data, task=task) as request_id:
            answer = self.send(request_id, data, task=task, **sent)
        self.check(answer, status, code, data)
        error: dict[str, Any] = answer.json()["error"]
        return error

    def all_refused(
        self, status: int, code: str, asked: Iterable[tuple[str, Any]], *, method: str = "POST", **sent: Any
    ) -> list[dict[str, Any]]:
        """Many requests, (path, body) each, within one look at what they may harm: the error of each.

        A body that is no bytes is sent as JSON.
        """
        errors = []
        with self.watched() as seen:
            for path, body in asked:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                seen.append(Sent(self.number(), status, data))
                answer = self.ask(path, data, method=method, request_id=seen[-1].id, **sent)
                self.check(answer, status, code, data)
                errors.append(answer.json()["error"])
        return errors

    def accepted(self, status: int, data: bytes = b"", *, task: str, **sent: Any) -> httpx.Response:
        """What is right is right: the table says so too."""
        answer = self.send(self.number(), data, task=task, **sent)
        return self.right(answer, status)

    def right(self, answer: httpx.Response, status: int = 200) -> httpx.Response:
        """An answer that the table has, and that is no refusal."""
        assert (status, "") in self.row.answers, "the table does not have this answer"
        assert answer.status_code == status, answer.text
        return answer

    def send(  # noqa: PLR0913 - what a request has
        self,
        request_id: str,
        data: bytes,
        *,
        task: str,
        to: str = "",
        method: str = "PUT",
        headers: Mapping[str, str] | None = None,
        **sent: Any,
    ) -> httpx.Response:
        named = httpx.Headers({**(headers or {}), "x-request-id": request_id}, encoding="utf-8")
        content = None if sent.keys() & {"json", "files"} else data
        return self.victim.http.request(method, f"/tasks/{task}{to}", content=content, headers=named, **sent)

    def ask(
        self,
        path: str,
        body: Any,
        *,
        method: str = "POST",
        request_id: str | None = None,
        headers: Mapping[str, str] = JSON,
    ) -> httpx.Response:
        """Any other request; a body that is no bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = httpx.Headers({**headers, "x-request-id": request_id or self.number()}, encoding="utf-8")
        return self.victim.http.request(method, path, content=data, headers=named)

    def number(self) -> str:
        """A request's id, of this row and used once."""
        return f"{self.row.id}-{next(NUMBERS)}"

    def check(self, answer: httpx.Response, status: int, code: str, payload: bytes) -> None:
        """Exactly this, in the one error shape, short, with nothing of what was sent."""
        assert (status, code) in self.row.answers, "the table does not have this answer"
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == code, answer.text
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
        assert len(answer.content) < LONGEST_ANSWER
        assert not repeated(payload, answer.content.decode(), *answer.json()["error"].values())

    @contextmanager
    def unharmed(self, status: int, payload: bytes = b"", *, task: str = TARGET) -> Iterator[str]:
        """`watched`, around one request; yields the id to send it under."""
        with self.watched(task) as seen:
            seen.append(Sent(self.number(), status, payload))
            yield seen[-1].id

    @contextmanager
    def watched(self, task: str = TARGET) -> Iterator[list[Sent]]:
        """The common effect of every refusal, around whatever sends some; yields the list to put them on.

        Nothing stored and nothing left, the task as it was, memory bounded, a neighbour that was running answered as
        ever, one line in the log for each without payload, and no line that says that something broke.
        """
        victim, seen = self.victim, list[Sent]()
        kept, history, lines, other = victim.kept(), victim.history(task), len(victim.log), len(victim.other)
        held = None if victim.pid is None else victim.forget_peak()
        with self._neighbour():
            yield seen
        until(lambda: victim.kept() == kept, "the store's directory is as it was", SWEPT_SECONDS)
        assert victim.history(task) == history
        if held is not None:
            assert victim.status_of("VmHWM") - held < UPLOAD_LIMIT + SLACK
        until(lambda: {one.id for one in seen} <= self._lines(lines).keys(), "the log has a line of each")
        told = self._lines(lines)
        assert {one.id: told[one.id] for one in seen} == {one.id: [one.status] for one in seen}, told
        written = victim.log[lines:]
        said = [value for one in written for value in one.values()]
        assert not [found for one in seen if (found := repeated(one.payload, *said))]
        assert not [line for line in written if line["level"] not in {"info", "debug"}]
        assert victim.other[other:] == []

    @contextmanager
    def _neighbour(self) -> Iterator[None]:
        """Begun before, read to its end after, and answered as if nobody else were there."""
        with self.victim.http.stream("POST", "/generate_stream", json=ASKED) as stream:
            events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
            assert next(events)["generated_text"] is None
            yield
            assert list(events)[-1]["generated_text"] == self.victim.said

    def _lines(self, since: int) -> dict[str, list[int]]:
        """The status in each request's lines; what a fault of the disk has to say besides is about the disk."""
        self.victim.http.get("/livez")
        found: dict[str, list[int]] = {}
        for line in self.victim.log[since:]:
            if line["event"] == "request":
                found.setdefault(line["request_id"], []).append(line["status"])
        return found


def repeated(payload: bytes, *told: Any) -> list[bytes]:
    """Runs of readable characters of a payload's both ends that stand in what was told, before JSON escapes it."""
    ends = payload[:EDGE] + b"\0" + payload[-EDGE:]
    said = "\n".join(str(one) for one in told).encode()
    return [run for run in REPEATED.findall(ends) if run[:64] in said]
