"""Bodies of /generate from strangers (the G rows of the catalogue): a 400, never a 500, and nothing repeated."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.site import Site, connect, raw, read_answer, status, until
from tests.server.site import site as running

SECRET = "Xq7ZsecretQ"
JSON = {"Content-Type": "application/json"}

BODIES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{inputs}",
    "list": b"[]",
    "string": b'"inputs"',
    "null": b"null",
    "not UTF-8": b'{"inputs": "\xff"}',
    "UTF-16": '{"inputs": "x"}'.encode("utf-16"),
    "BOM": b'\xef\xbb\xbf{"inputs": "x"}',
    "100,000 deep": b'{"inputs": ' + b"[" * 100_000,
    "same key twice": b'{"inputs": "a", "inputs": "b"}',
    "NaN": b'{"inputs": "x", "parameters": {"top_p": NaN}}',
    "1e999": b'{"inputs": "x", "parameters": {"temperature": 1e999}}',
    "half a surrogate": b'{"inputs": "\\ud800"}',
    "half a surrogate in a key": b'{"inputs": "x", "\\udfff": 1}',
    "no inputs": b"{}",
    "null inputs": b'{"inputs": null}',
    "number inputs": b'{"inputs": 3}',
    "list inputs": b'{"inputs": ["a"]}',
    "number in inputs": b'{"inputs": {"a": 1}}',
    "number task": b'{"task": 1, "inputs": "x"}',
    "empty task": b'{"task": "", "inputs": "x"}',
    "null task": b'{"task": null, "inputs": "x"}',
    "version 0": b'{"inputs": "x", "task": "t", "version": 0}',
    "version text": b'{"inputs": "x", "task": "t", "version": "1"}',
    "version 1e400": b'{"inputs": "x", "task": "t", "version": 1' + b"0" * 400 + b"}",
    "number parameters": b'{"inputs": "x", "parameters": 1}',
    "null parameters": b'{"inputs": "x", "parameters": null}',
    "5,000 digits": b'{"inputs": "x", "parameters": {"max_new_tokens": 1' + b"0" * 5000 + b"}}",
    "truncate 0": b'{"inputs": "x", "truncate": 0}',
    "template": b'{"inputs": "x", "template": "{x}"}',
    "regex": b'{"inputs": "x", "parameters": {"regex": "(a+)+"}}',
    "prompt_embeds": b'{"inputs": "x", "prompt_embeds": "AAAA"}',
    "images": b'{"inputs": "x", "images": ["file:///etc/passwd"]}',
    "logit_bias": b'{"inputs": "x", "parameters": {"logit_bias": {"1": 1e308}}}',
    "do_sample": b'{"inputs": "x", "parameters": {"do_sample": true}}',
    "best_of": b'{"inputs": "x", "parameters": {"best_of": 1000000000}}',
    "too long a prompt": b'{"inputs": "' + b"word " * 5000 + b'"}',
}


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("POST", "/generate?stream=true", "none"),
        ("POST", "/generate?min_version=99", "none"),
        ("GET", "/info?x", "none"),
        ("GET", "/tasks/t/versions?limit=1", "min_version"),
        ("GET", "/tasks?limits=1", "did you mean limit?"),
        ("PUT", "/tasks/t?templat=x", "did you mean template?"),
        ("DELETE", "/tasks/t?force=1", "none"),
    ],
)
def test_a_query_that_nobody_reads_is_refused(site: Site, method: str, path: str, hint: str) -> None:
    """With what was probably meant; a health probe may carry anything."""
    answer = site.http.request(method, path, json={"inputs": "x"} if method == "POST" else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_field")
    assert hint in answer.json()["error"]["message"]
    assert site.http.get("/livez?now=1").status_code == 200


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"inputs": "x", "temperature": 1}, "temperature belongs in parameters"),
        ({"inputs": "x", "seed": 1}, "seed belongs in parameters"),
        ({"task": "t", "input": "x"}, "did you mean inputs?"),
        ({"inputs": "x", "parameters": {"temprature": 1}}, "did you mean temperature?"),
        ({"requests": [{"inputs": "x", "max_new_tokens": 1}]}, "max_new_tokens belongs in parameters"),
    ],
)
def test_an_unknown_field_is_told_where_it_belongs(site: Site, body: Any, hint: str) -> None:
    """And before the field that is missing because it was misspelt."""
    error = site.http.post("/generate", json=body).json()["error"]
    assert (error["code"], hint in error["message"]) == ("unknown_field", True), error


def test_no_error_repeats_a_key_of_the_client(site: Site) -> None:
    """However long it is."""
    answer = site.http.put("/tasks/metered", json={"template": "x", "metrics": {"k" * 1_000_000: "a"}})
    assert answer.status_code in {400, 422}
    assert len(answer.content) < 4096


@pytest.mark.parametrize("route", ["/generate", "/generate_stream", "/classify", "/render"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_bad_body_is_a_400(site: Site, route: str, body: bytes) -> None:
    """On every route that reads one, in the one error shape."""
    answer = site.http.post(route, content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert len(answer.content) < 4096


@pytest.mark.parametrize(
    ("parameters", "hint"),
    [
        ({"max_tokens": 5}, "max_new_tokens"),
        ({"maxNewTokens": 5}, "max_new_tokens"),
        ({"temprature": 0}, "temperature"),
        ({"stop_sequences": ["a"]}, "stop"),
        ({"topk": 3}, "top_k"),
    ],
)
def test_an_unknown_parameter_is_answered_with_a_suggestion(site: Site, parameters: dict[str, Any], hint: str) -> None:
    """What is not honoured is not accepted."""
    error = site.http.post("/generate", json={"inputs": "x", "parameters": parameters}).json()["error"]
    assert (error["code"], error["param"]) == ("unknown_field", "parameters")
    assert hint in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "x", SECRET: 1},
        {"inputs": {SECRET: 1}},
        {"inputs": {SECRET: "x"}, "task": "echo"},
        {"inputs": "x", "task": SECRET},
        {"inputs": "x", "parameters": {SECRET: 1}},
        {"inputs": "x", "parameters": {"stop": SECRET}},
        {"inputs": SECRET * 400},
        {"requests": [{"inputs": "x", SECRET: 1}]},
        {"inputs": "x", "stream": SECRET},
    ],
)
def test_nothing_of_the_input_is_repeated(site: Site, body: dict[str, Any]) -> None:
    """Error messages end up in logs, which hold no payload."""
    site.publish("echo", "{text}")
    answer = site.http.post("/generate", json=body)
    assert answer.status_code in {400, 404}
    assert SECRET not in answer.text


def test_nul_and_template_syntax_are_plain_text(site: Site) -> None:
    """What looks like code in an input is characters."""
    for text in ("a\0b", "{{7*7}}", "{% raw %}", "{soft:3}", "{text}", "$(id)"):
        assert site.http.post("/render", json={"inputs": text}).json()["text"] == text


@pytest.fixture(scope="module")
def small(base_folder: Path) -> Iterator[Site]:
    with running(base_folder, "memory://", max_body_bytes=1000, max_upload_bytes=2000, receive_seconds=0.5) as found:
        yield found


def test_a_body_that_says_it_is_too_large_is_not_read(small: Site) -> None:
    """413 at once, and no 100-continue."""
    for line, limit in ((b"POST /generate", 1001), (b"PUT /tasks/t", 2001)):
        head = line + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/%s\r\nExpect: 100-continue\r\n"
        kind = b"json" if b"POST" in line else b"octet-stream"
        answer = raw(small.url, head % kind + b"Content-Length: %d\r\n\r\n" % limit)
        assert status(answer) == 413
        assert b"connection: close" in answer.lower()


def test_a_body_that_turns_out_too_large_is_cut_off(small: Site) -> None:
    """Without a length, at the limit."""
    chunks = b"".join(b"64\r\n" + b"x" * 100 + b"\r\n" for _ in range(30))
    head = b"PUT /tasks/t HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status(raw(small.url, head + chunks)) == 413
    assert small.http.get("/tasks/t").status_code == 404


def test_a_body_that_never_comes_is_given_up(small: Site) -> None:
    """408 at the deadline, however slowly its bytes trickle."""
    for line in (b"POST /generate", b"PUT /tasks/t"):
        head = line + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        assert status(raw(small.url, head + b'{"a"')) == 408


def test_an_upload_that_breaks_off_publishes_nothing(small: Site) -> None:
    """Half a file is no file."""
    with connect(small.url) as connection:
        connection.sendall(b"PUT /tasks/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
    until(small.idle, "the server is idle")
    assert small.http.get("/tasks/half").status_code == 404


def test_a_body_of_the_largest_size_is_read(small: Site) -> None:
    """The limit itself is allowed."""
    with connect(small.url) as connection:
        body = b'{"inputs": "x", "parameters": {"max_new_tokens": 1}}'.ljust(1000)
        head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000"
        connection.sendall(head + b"\r\n\r\n" + body)
        assert status(read_answer(connection)) == 200
