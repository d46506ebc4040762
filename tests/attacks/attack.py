"""One abuse, and what holds for every refusal, checked in one place: `Attack.unharmed`.

Knows requests and answers; the abuse itself is the test's.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

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

    def accepted(self, status: int, data: bytes = b"", *, task: str, **sent: Any) -> httpx.Response:
        """What is right is right: the table says so too."""
        assert (status, "") in self.row.answers, "the table does not have this answer"
        answer = self.send(f"{self.row.id}-{next(NUMBERS)}", data, task=task, **sent)
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

    def check(self, answer: httpx.Response, status: int, code: str, payload: bytes) -> None:
        """Exactly this, in the one error shape, short, with nothing of what was sent."""
        assert (status, code) in self.row.answers, "the table does not have this answer"
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == code, answer.text
        assert len(answer.content) < LONGEST_ANSWER
        assert not repeated(payload, answer.content.decode(), *answer.json()["error"].values())

    @contextmanager
    def unharmed(self, status: int, payload: bytes = b"", *, task: str = TARGET) -> Iterator[str]:
        """The common effect of every refusal, around whatever sends it; yields the id to send it under.

        Nothing stored and nothing left, the task as it was, memory bounded, a neighbour that was running answered as
        ever, one line in the log without payload, and no line that says that something broke.
        """
        victim, request_id = self.victim, f"{self.row.id}-{next(NUMBERS)}"
        kept, history, lines, other = victim.kept(), victim.history(task), len(victim.log), len(victim.other)
        held = None if victim.pid is None else victim.forget_peak()
        with self._neighbour():
            yield request_id
        until(lambda: victim.kept() == kept, "the store's directory is as it was", SWEPT_SECONDS)
        assert victim.history(task) == history
        if held is not None:
            assert victim.status_of("VmHWM") - held < UPLOAD_LIMIT + SLACK
        until(lambda: bool(self._lines(request_id)), "the log has its line")
        (line,) = self._lines(request_id)
        assert line["status"] == status
        written = victim.log[lines:]
        assert not repeated(payload, *(value for one in written for value in one.values()))
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

    def _lines(self, request_id: str) -> list[dict[str, Any]]:
        self.victim.http.get("/livez")
        """One a request; what a fault of the disk has to say besides is about the disk."""
        found = [line for line in list(self.victim.log) if line.get("request_id") == request_id]
        return [line for line in found if line["event"] == "request"]


def repeated(payload: bytes, *told: Any) -> list[bytes]:
    """Runs of readable characters of a payload's both ends that stand in what was told, before JSON escapes it."""
    ends = payload[:EDGE] + b"\0" + payload[-EDGE:]
    said = "\n".join(str(one) for one in told).encode()
    return [run for run in REPEATED.findall(ends) if run[:64] in said]
