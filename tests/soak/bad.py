"""Bad input of a soak, each with the one right answer (the whole tables: tests/attacks)."""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.soak.calls import JSON, Call, called

HOST = b"POST /generate HTTP/1.1\r\nhost: localhost\r\n"


def _data(data: bytes, *right: int, path: str = "/generate", type: str = JSON) -> Call:  # noqa: A002 - the header's name
    return Call("POST", path, data, frozenset(right), {"content-type": type})


def _told(**told: Any) -> Call:
    return called("POST", "/generate", 400, body={"task": "intent", "inputs": "play", "parameters": told})


def _raw(data: bytes, *right: int) -> Call:
    return Call("POST", "", b"", frozenset(right), raw=data)


BAD: Mapping[str, Callable[[Random], Call]] = {
    "no JSON": lambda draw: _data(draw.randbytes(draw.randint(1, 2000)), 400),
    "nested": lambda _: _data(b"[" * 5000, 400),
    "no number": lambda _: _data(b'{"inputs": "play", "parameters": {"temperature": NaN}}', 400),
    "unknown field": lambda _: called("POST", "/generate", 400, body={"inputs": "play", "max_tokens": 3}),
    "odd parameters": lambda draw: _told(**draw.choice(({"top_p": 2}, {"n": 0}, {"stop": [""] * 20}, {"seed": -1}))),
    "too long": lambda draw: called("POST", "/generate", 400, body={"inputs": "jazz " * draw.randint(1500, 9000)}),
    "no inputs": lambda _: called("POST", "/classify", 400, body={"task": "intent"}),
    "no such task": lambda draw: called(
        "POST", "/generate", 404, body={"task": f"none-{draw.randint(0, 10**9)}", "inputs": "x"}
    ),
    "no such model": lambda _: called("POST", "/v1/completions", 404, body={"model": "none", "prompt": "x"}),
    "no prompt file": lambda draw: called("PUT", "/tasks/bad", 422, data=draw.randbytes(draw.randint(1, 20_000))),
    "cut file": lambda draw: called("PUT", "/tasks/bad", 422, data=_header(draw.randint(100, 9_000))),
    "bad template": lambda _: called("PUT", "/tasks/bad", 422, body={"template": "{a} {soft:3} {"}),
    "bad name": lambda draw: called("PUT", f"/tasks/{'x' * draw.randint(129, 900)}", 400, body={"template": "{a}"}),
    "media type": lambda _: _data(b"inputs=play", 415, type="application/x-www-form-urlencoded"),
    "method": lambda _: called("DELETE", "/generate", 405),
    "large": lambda _: Call(
        "POST", "/generate", b"", frozenset({413}), {"content-type": JSON, "content-length": str(10**9)}
    ),
    "many headers": lambda _: Call("GET", "/info", b"", frozenset({431}), {f"x-{n}": "y" for n in range(200)}),
    "no HTTP": lambda draw: _raw(b"\x16\x03\x01" + draw.randbytes(100) + b"\r\n\r\n", 400),
    "two lengths": lambda _: _raw(HOST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 400),
}


def _header(claimed: int) -> bytes:
    """A prompt file that ends in the middle of what its header says."""
    entry = {"embeddings": {"dtype": "F32", "shape": [claimed, 256], "data_offsets": [0, claimed * 1024]}}
    header = json.dumps(entry).encode()
    return len(header).to_bytes(8, "little") + header + bytes(64)
