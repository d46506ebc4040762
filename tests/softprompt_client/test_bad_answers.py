"""Answers that no softprompt server gives, on a real socket: each is one SoftpromptError, of every method."""

from collections.abc import Mapping
from typing import Any

import pytest

from softprompt_client import SoftpromptError
from tests.softprompt_client.conftest import Asking, Waiting, response, scripted

DEEP = b"[" * 200_000
BODIES = (b"", b"null", b"[]", b'"x"', b"5", b"{}", b"<html>", b"\xff", DEEP, b'{"error": "x"}')
LISTS = tuple(
    b'{"data": %s, "responses": %s, "has_more": false, "last_id": null}' % (one, one)
    for one in (b"null", b"5", b'"x"', b"{}", b"[5]", b"[null]", b"[[]]")
)
METHODS: Mapping[str, tuple[Any, ...]] = {
    "generate": ("base", "x"),
    "generate_many": ([{"inputs": "x"}],),
    "classify": ("base", "x", ["a"]),
    "classify_many": ([{"inputs": "x"}],),
    "render": ("base", "x"),
    "generate_request": ({"inputs": "x"},),
    "render_request": ({"inputs": "x"},),
    "info": (),
    "ready": (),
    "tasks.list": (),
    "tasks.get": ("t",),
    "tasks.versions": ("t",),
    "tasks.version": ("t", 1),
    "tasks.prompt": ("t", 1),
    "tasks.nearest": ("t",),
    "tasks.publish": ("t", b"file"),
    "tasks.patch": ("t", {}),
    "tasks.rollback": ("t", 1),
    "tasks.delete": ("t",),
}
STREAMS: Mapping[str, tuple[Any, ...]] = {"generate_stream": ("base", "x"), "stream_request": ({"inputs": "x"},)}
EVENT = b'data: {"index": 0, "token": {}, "generated_text": null, "details": null}\n\n'
DATA = (b"junk", b"[DONE]", b"5", b"null", b'{"a": 1}', b'{"error": "x"}', b"[]", b"\xff", DEEP, b'{"token": {}}')


def asked(client: Waiting, method: str, arguments: tuple[Any, ...]) -> Any:
    owner = client.tasks if method.startswith("tasks.") else client
    return getattr(owner, method.removeprefix("tasks."))(*arguments)


def told(client_of: Asking, said: bytes, method: str) -> SoftpromptError:
    """What is raised when `said` is the answer; nothing else escapes, and nothing is sent twice."""
    with scripted(said) as server, pytest.raises(SoftpromptError) as caught:
        asked(client_of(server.url), method, {**METHODS, **STREAMS}[method])
    return caught.value


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_is_none_is_told(client_of: Asking, method: str) -> None:
    """Success with a body of another shape, and a body that its encoding does not say."""
    lists = (
        LISTS if method in {"tasks.list", "tasks.versions", "tasks.nearest", "generate_many", "classify_many"} else ()
    )
    for body in (*BODIES, *lists):
        error = told(client_of, response(200, body), method)
        assert (error.code, error.status, error.retryable) == ("bad_answer", 200, False), body[:50]
    assert told(client_of, response(200, b"junk", Content_Encoding="gzip"), method).code == "bad_answer"


@pytest.mark.parametrize("method", [*METHODS, *STREAMS])
def test_a_refusal_of_somebody_else_is_told(client_of: Asking, method: str) -> None:
    """Its code is HTTP's where the body has none of ours."""
    codes = (b'{"error": {"code": 404}}', b'{"error": {"code": ["x"]}}', b'{"error": []}')
    for body in (*BODIES, *codes):
        error = told(client_of, response(404, body), method)
        assert (error.code, error.status) == ("http_404", 404), body[:50]
    assert told(client_of, response(404, b"junk", Content_Encoding="gzip"), method).code == "bad_answer"


@pytest.mark.parametrize("method", STREAMS)
def test_a_stream_of_somebody_else_is_told(client_of: Asking, method: str) -> None:
    """Events of another shape, first or later; no event at all; an end before the details."""
    for data in DATA:
        for begun in (b"", EVENT):
            assert told(client_of, response(200, begun + b"data: " + data + b"\n\n"), method).code == "bad_answer", data
    for body in (*BODIES, EVENT):
        assert told(client_of, response(200, body), method).code == "bad_answer", body[:50]
    assert told(client_of, response(200, b"junk", Content_Encoding="gzip"), method).code == "bad_answer"


@pytest.mark.parametrize("method", ["generate_many", "classify_many"])
def test_as_many_answers_as_questions_are_wanted(client_of: Asking, method: str) -> None:
    """Or nobody could tell which is whose."""
    for body in (b'{"responses": []}', b'{"responses": [{}, {}]}'):
        assert told(client_of, response(200, body), method).code == "bad_answer"
