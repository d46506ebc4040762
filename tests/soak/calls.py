"""One HTTP request of a soak and what it may be answered. Knows bytes; sends nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GONE = frozenset({"task_not_found", "model_not_found"})
"""Codes of a task that another client has just deleted."""


@dataclass(frozen=True, slots=True)
class Call:
    """`right`: statuses that are right; `codes`: of errors inside of an answer that may stand there all the same.

    `raw`: sent as it is in place of everything else; None for a request that is HTTP.
    """

    method: str
    path: str
    body: bytes
    right: frozenset[int]
    headers: Mapping[str, str] = field(default_factory=dict)
    codes: frozenset[str] = frozenset()
    raw: bytes | None = None

    def sent(self) -> bytes:
        """As it goes over the connection."""
        if self.raw is not None:
            return self.raw
        head = {"host": "localhost", "content-length": str(len(self.body)), **self.headers}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def called(method: str, path: str, *right: int, body: Any = None, data: bytes = b"", key: str | None = None) -> Call:
    """`body` as JSON, or `data` as it is; `key`: the operation's."""
    headers = {} if key is None else {"idempotency-key": key}
    if body is not None:
        return Call(method, path, json.dumps(body).encode(), frozenset(right), headers | {"content-type": JSON})
    return Call(method, path, data, frozenset(right), headers)


def asking(path: str, body: Any) -> Call:
    """A question to a task that may be gone."""
    headers = {"content-type": JSON}
    return Call("POST", path, json.dumps(body).encode(), frozenset({200, 404}), headers, GONE)


JSON = "application/json"
