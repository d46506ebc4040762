"""Every route that takes a body, with bodies that are nearly good.

Whatever comes, the answer is one that the OpenAPI document lists, in time, and no error repeats what was sent.
"""

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from tests.fuzz.cases import some
from tests.fuzz.findings import Findings
from tests.fuzz.json_changes import changed
from tests.fuzz.speech import error_faults
from tests.fuzz.subject import BODY_BYTES, UPLOAD_BYTES, Subject, published

PART = "bodies"
AT_ONCE = 4
ANSWER_SECONDS = 60.0
"""For 256 generations of a base that is small, on a busy machine."""
KNOWN = {"task": ("t", "t", "two", "made", "nobody", "base"), "file": ("file-0",), "job": ("ftjob-0",)}
"""What stands in a path's places."""
ASK = {"task": "two", "inputs": {"first": "play", "second": "jazz"}, "parameters": {"max_new_tokens": 3, "n": 2}}
SAMPLED = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1, "seed": 7}
FULL = {**SAMPLED, "max_new_tokens": 4, "stop": ["a", "\n\n"], "ignore_eos": True, "logprobs": 2, "timeout_ms": 9000}
CHAT = [{"role": "system", "content": "brief"}, {"role": "user", "content": "play"}]
MORE: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("post", "/generate"): (
        ASK,
        {"task": "t", "inputs": "play", "parameters": FULL, "version": 1, "min_version": 1, "truncate": 5},
        {"requests": [ASK, {"inputs": "play", "parameters": {"max_new_tokens": 2}}, {"task": "none", "inputs": ""}]},
        {"task": "t", "inputs": "play", "parameters": {"max_new_tokens": 4}, "stream": True},
    ),
    ("post", "/generate_stream"): ({"task": "t", "inputs": "play", "parameters": FULL},),
    ("post", "/classify"): (
        {"task": "t", "inputs": "play", "labels": ["yes", "no"]},
        {
            "requests": [
                {"task": "two", "inputs": ASK["inputs"], "labels": ["a"]},
                {"inputs": "x", "labels": ["b", "c"]},
            ]
        },
    ),
    ("post", "/render"): ({"task": "two", "inputs": ASK["inputs"], "truncate": 3},),
    ("put", "/tasks/{task}"): (
        {"template": "{{a}} {text}", "target_delimiter": "", "labels": ["x", "y"], "metrics": {"a": 0.5}},
        {"kind": "text", "template": "t", "defaults": {"max_new_tokens": 2, "stop": ["x"]}, "description": "d"},
    ),
    ("patch", "/tasks/{task}"): ({"labels": None, "defaults": {"stop": None}, "template": "say {input}"},),
    ("post", "/v1/completions"): (
        {"model": "t", "prompt": ["a", "b"], "max_tokens": 2, "n": 2, "logprobs": 1, "echo": True, "stop": "x"},
        {"model": "base:t", "prompt": [[1, 2], [3]], "max_tokens": 2, "best_of": 1, "suffix": None, "user": "u"},
        {"model": "two", "inputs": ASK["inputs"], "stream": True, "stream_options": {"include_usage": True}},
    ),
    ("post", "/v1/chat/completions"): ({"model": "t", "messages": CHAT, "max_tokens": 2, "logprobs": True},),
    ("post", "/tokenize"): ({"prompt": "play", "add_special_tokens": False}, {"messages": CHAT}),
    ("post", "/detokenize"): ({"tokens": [0, 1, 300], "model": "t"},),
}
"""Besides the document's own examples."""
FILE = '{"text": "play", "act": "go"}\n{"text": "stop", "act": "halt"}\n'


@dataclass(frozen=True, slots=True)
class Route:
    """`answers`: the statuses that the document lists, less 500."""

    method: str
    path: str
    bodies: tuple[Any, ...]
    answers: frozenset[int]


def routes(document: Mapping[str, Any]) -> list[Route]:
    """Of every operation that takes JSON, with its examples."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                examples = tuple(_examples(content["application/json"]["schema"], document["components"]["schemas"]))
                answers = frozenset(int(status) for status in operation["responses"]) - {500}
                found.append(Route(method, path, examples + MORE.get((method, path), ()), answers))
    return found


def _examples(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Any]:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    yield from schema.get("examples", ())
    for one in schema.get("anyOf", ()):
        yield from _examples(one, schemas)


class Bodies:
    """Of one server."""

    def __init__(self, subject: Subject, findings: Findings) -> None:
        self._http = subject.http
        self._subject = subject
        self._findings = findings
        published(self._http, "t", template="say {input}:", labels=["go", "halt"])
        published(self._http, "two", template="{first} and {second}")
        document = self._http.get("/openapi.json").json()
        self.routes = routes(document)
        uploads = document["paths"]["/v1/files"]["post"]["responses"]
        self._uploads = Route("post", "/v1/files", (), frozenset(map(int, uploads)) - {500})

    def case(self, name: str) -> None:
        draw = Random(name)
        mark = f"MARK{draw.getrandbits(64):016x}"
        if draw.random() < 0.06:
            self._ask(name, self._uploads, "/v1/files", *_form(draw, mark), mark)
            return
        route = draw.choice(self.routes)
        bodies = route.bodies or ({},)
        body = changed(draw.choice(bodies), draw, mark)
        path = route.path.format_map({place: draw.choice(known) for place, known in KNOWN.items()})
        if route.path == "/tasks/{task}" and path != "/tasks/nobody":
            path = "/tasks/made"  # those that others are asked about stay as they are
        kind = (
            "application/json" if draw.random() < 0.97 else draw.choice(("text/plain", "application/json; charset=x"))
        )
        self._ask(name, route, path, body, kind, mark)

    def _ask(self, name: str, route: Route, path: str, body: bytes, kind: str, mark: str) -> None:  # noqa: PLR0913, PLR0917 - a request
        began = time.monotonic()
        try:
            answer = self._http.request(route.method.upper(), path, content=body, headers={"content-type": kind})
        except httpx.TransportError as error:
            large = len(body) > (UPLOAD_BYTES if "files" in path else BODY_BYTES)  # refused while it was being sent
            self._findings.count("closed early" if large else "no answer")
            self._findings.claim(large, name, f"{route.method} {route.path}: {type(error).__name__}", body)
            return
        took = time.monotonic() - began
        self._findings.most("slowest answer, seconds", took)
        self._findings.count("requests", f"status {answer.status_code}")
        for fault in [*_faults(route, answer, mark), *([f"{took:.1f} seconds"] if took > ANSWER_SECONDS else [])]:
            self._findings.claim(False, name, f"{route.method} {route.path}: {fault}", body)
        if path == "/v1/files" and answer.status_code == 200:
            self._http.delete(f"/v1/files/{answer.json()['id']}")


def _faults(route: Route, answer: httpx.Response, mark: str) -> Iterator[str]:
    status = answer.status_code
    if status not in route.answers:
        yield f"status {status} is not in the document: {answer.text[:200]}"
    if "x-request-id" not in answer.headers:
        yield "no x-request-id"
    if status >= 400:
        yield from (f"{status}: {fault}" for fault in error_faults(status, answer.content))
        if mark in answer.text:
            yield f"{status}: the error repeats what was sent"
        return
    try:
        for value in _values(answer):
            yield from _item_faults(value, mark)
    except ValueError:
        yield f"{status}: the answer is not JSON: {answer.text[:200]!r}"


def _values(answer: httpx.Response) -> list[Any]:
    """The answer, or each event of a stream; strict about numbers."""
    texts = [answer.text]
    if answer.headers["content-type"].startswith("text/event-stream"):
        texts = [event.removeprefix("data: ") for event in answer.text.split("\n\n")]
        texts = [text for text in texts if text not in {"", "[DONE]"}]
    return [json.loads(text, parse_constant=_no_number) for text in texts]


def _no_number(_: str) -> None:
    raise ValueError


def _item_faults(value: Any, mark: str) -> Iterator[str]:
    """Errors that stand in the items of an answer are held to the same."""
    items = value.get("responses", [value]) if isinstance(value, dict) else []
    for item in items:
        if isinstance(item, dict) and "error" in item and mark in json.dumps(item["error"]):
            yield "an item's error repeats what was sent"
        if isinstance(item, dict) and isinstance(item.get("error"), dict) and item["error"].get("code") == "internal":
            yield "an item's error is internal"


def _form(draw: Random, mark: str) -> tuple[bytes, str]:
    """multipart/form-data, with rows that are changed, or with itself changed."""
    rows = changed({"text": "play", "act": mark}, draw, mark) + b"\n" + FILE.encode()
    name, purpose = (
        draw.choice(("rows.jsonl", "rows.csv", "../../x", "\u00e9", "")),
        draw.choice(("fine-tune", "fine-tune", mark)),
    )
    parts = [
        f'Content-Disposition: form-data; name="purpose"\r\n\r\n{purpose}'.encode(),
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + rows,
    ]
    body = (
        b"".join(b"--b\r\n" + part + b"\r\n" for part in draw.sample(parts, draw.choice((2, 2, 2, 1)))) + b"--b--\r\n"
    )
    if draw.random() < 0.4:
        at = draw.randint(0, len(body))
        body = (
            body[:at] + draw.choice((b"", b"\r\n--b\r\n", b"\0", b'"', b"--b--")) + body[at + draw.choice((0, 1, 30)) :]
        )
    return body, draw.choice(
        ("multipart/form-data; boundary=b",) * 5 + ("multipart/form-data", "multipart/form-data; boundary=")
    )


def fuzz(subject: Subject, findings: Findings, names: Iterator[str]) -> None:
    """Some clients at a time."""
    bodies = Bodies(subject, findings)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(bodies.case, [f"warm-{number}" for number in range(40)]))
        subject.warmed()
        for batch in some(names, 20 * AT_ONCE):
            list(pool.map(bodies.case, batch))
            subject.look(batch[-1])
