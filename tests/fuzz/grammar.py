"""HTTP/1.1 as it should be: requests drawn with every freedom that the protocol gives, and what they may be answered.

Knows some of our routes; a task `t` and a task `canary` are there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from server.errors import RULES
from tests.fuzz.subject import BODY_BYTES

ANY = frozenset({rule.status for rule in RULES.values()} - {500} | {200, 201, 204})
"""What anything at all may be answered."""
GOOD = frozenset({200, 429, 503})
"""429 and 503: there may be too many who wait."""
SENTENCE = "play some jazz"


@dataclass(frozen=True, slots=True)
class Request:
    """`body` None: none was meant. `chunks`: sizes it is sent in; without any it has a Content-Length."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    chunks: tuple[int, ...] = ()
    version: str = "1.1"
    expects: frozenset[int] = ANY

    def encoded(self) -> bytes:
        head = [f"{self.method} {self.target} HTTP/{self.version}", *(f"{n}: {v}" for n, v in self.headers)]
        body = self.body or b""
        if self.chunks:
            head.append("Transfer-Encoding: chunked")
            body = chunked(body, self.chunks)
        elif self.body is not None:
            head.append(f"Content-Length: {len(body)}")
        return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(body: bytes, sizes: Sequence[int]) -> bytes:
    """The sizes over and over, until the body is used up."""
    pieces, at, turn = [], 0, 0
    while at < len(body):
        piece = body[at : at + sizes[turn % len(sizes)]]
        pieces.append(f"{len(piece):x}".encode() + b"\r\n" + piece + b"\r\n")
        at, turn = at + len(piece), turn + 1
    return b"".join([*pieces, b"0\r\n\r\n"])


READS: tuple[tuple[str, frozenset[int]], ...] = (
    *((path, GOOD) for path in ("/livez", "/readyz", "/startupz", "/health", "/ping", "/version", "/info")),
    *((path, GOOD) for path in ("/metrics", "/tasks", "/tasks/t", "/tasks/t/versions", "/tasks/t/versions/1")),
    *((path, GOOD) for path in ("/tasks?limit=3&order=desc", "/v1/models", "/v1/models/t", "/openapi.json", "/")),
    *((path, GOOD) for path in ("/tasks/t/versions/1/prompt", "/tokenizer_info", "/livez?a=1&b=%20")),
    *((path, frozenset({404})) for path in ("/tasks/none", "/tasks/..", "/tasks/%2e%2e", "/none", "/tasks/t%00")),
    *((path, frozenset({404})) for path in ("//evil", "/tasks/", "/tasks/t/", "/generate/", "/%2flivez", "/.")),
    *((path, frozenset({400, 404})) for path in ("/tasks?limit=0", "/tasks?nothing=1", "/tasks/t/nearest", "/info?a")),
    *((path, frozenset({405})) for path in ("/generate", "/classify", "/v1/completions")),
    ("/" + "a" * 9000, frozenset({414})),
)
SAMPLED = {"max_new_tokens": 3, "ignore_eos": True}
WRITES: tuple[tuple[str, str, Any, frozenset[int]], ...] = (
    ("POST", "/generate", {"task": "t", "inputs": SENTENCE, "parameters": SAMPLED}, GOOD),
    ("POST", "/generate", {"inputs": SENTENCE, "parameters": SAMPLED, "stream": True}, GOOD),
    ("POST", "/generate_stream", {"task": "t", "inputs": SENTENCE, "parameters": SAMPLED}, GOOD),
    ("POST", "/generate", {"requests": [{"inputs": SENTENCE, "parameters": SAMPLED}, {"inputs": 3}]}, frozenset({400})),
    ("POST", "/generate", {"task": "none", "inputs": ""}, frozenset({404})),
    ("POST", "/generate", [], frozenset({400})),
    ("POST", "/classify", {"task": "t", "inputs": SENTENCE, "labels": ["yes", "no"]}, GOOD),
    ("POST", "/render", {"task": "t", "inputs": "\u00e9\U0001f600\0"}, GOOD),
    ("POST", "/tokenize", {"prompt": SENTENCE}, GOOD),
    ("POST", "/detokenize", {"tokens": [1, 2, 3]}, GOOD),
    ("POST", "/v1/completions", {"model": "t", "prompt": SENTENCE, "max_tokens": 3}, GOOD),
    ("POST", "/v1/completions", {"model": "t", "prompt": SENTENCE, "max_tokens": 3, "stream": True}, GOOD),
    ("PUT", "/tasks/made", {"template": "say {text}"}, frozenset({200, 201})),
    ("PUT", "/tasks/made", {"template": "say {text"}, frozenset({422})),
    ("PATCH", "/tasks/made", {"description": "made"}, frozenset({200, 201, 404})),
    ("POST", "/tasks/made/rollback", {"version": 1}, frozenset({200, 201, 404, 409})),
    ("POST", "/tasks/t/rollback", {"version": 999}, frozenset({404})),
    ("POST", "/nowhere", {"a": 1}, frozenset({404})),
    ("POST", "/livez", {"a": 1}, frozenset({405})),
)
HARMLESS = (
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip, br"),
    ("User-Agent", "fuzz/1.0 (\u00e9)"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Range", "bytes=0-1,2-3"),
    ("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ("Cookie", "a=b; c=d"),
    ("Authorization", "Bearer none"),
    ("X-Request-Id", "one-two.3"),
    ("X-Request-Id", '<script>"\\'),
    ("Connection", "keep-alive"),
    ("Empty", ""),
    ("Padded", "  \t value"),
    ("TE", "trailers"),
)
JSON = ("Content-Type", "application/json")


def exact(draw: Random, *, last: bool) -> Request:
    """One that has nothing wrong with it, as far as `expects` does not say otherwise. Only the last may end it all."""
    chance = draw.random()
    if chance < 0.35:
        target, expects = draw.choice(READS)
        made = Request("GET", target, expects=expects)
    elif chance < 0.42:
        made = Request(draw.choice(("HEAD", "OPTIONS", "TRACE", "PROPFIND")), "/livez", expects=frozenset({405}))
    elif chance < 0.5:
        made = _file(draw)
    elif chance < 0.53:
        made = Request("DELETE", "/tasks/made", expects=frozenset({204, 404}))
    else:
        method, target, value, expects = draw.choice(WRITES)
        body = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode()
        made = Request(method, target, (JSON,), body, _sizes(draw), expects=expects)
    return _dressed(draw, made, last=last)


def _file(draw: Random) -> Request:
    """An upload that is no prompt file, or a body past its limit, which may be refused before all of it was sent."""
    if draw.random() < 0.5:
        size, expects = draw.choice((0, 7, 300, 5000)), frozenset({422})
        return Request("PUT", "/tasks/made", (), draw.randbytes(size), _sizes(draw) if size else (), expects=expects)
    body = b'{"inputs":"' + b"x" * BODY_BYTES + b'"}'
    return Request("POST", "/generate", (JSON,), body, draw.choice(((), (70_000,))), expects=frozenset({413}))


def _sizes(draw: Random) -> tuple[int, ...]:
    return draw.choice(((), (), (), (1, 2), (7,), (10_000,), (64, 1)))


def _dressed(draw: Random, made: Request, *, last: bool) -> Request:
    """Headers in any order and case, and how it is to end."""
    more = [("Host", draw.choice(("localhost", "127.0.0.1", "LOCALHOST:80", "[::1]")))]
    more += draw.sample(HARMLESS, draw.choice((0, 0, 1, 3, 6)))
    version = "1.1"
    if last and draw.random() < 0.2:
        more = [pair for pair in more if pair[0] != "Connection"] + [("Connection", "close")]
    elif last and not made.chunks and draw.random() < 0.07:
        version = "1.0"
    if made.body is not None and version == "1.1" and draw.random() < 0.05:
        more.append(("Expect", "100-continue"))
    headers = [*made.headers, *more]
    draw.shuffle(headers)
    cased = tuple((draw.choice((n, n, n.lower(), n.upper())), v) for n, v in headers)
    expects = made.expects | ({400} if version == "1.0" else set())  # a server may know HTTP/1.1 alone
    return Request(made.method, made.target, cased, made.body, made.chunks, version, expects)
