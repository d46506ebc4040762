"""Questions whose body is no question: G01 to G13 and G38 to G40."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.attacks.asking import GENERATE, OPENAI, OURS, ROUTES, question, raw, with_fields, with_parameters
from tests.attacks.attack import Attack
from tests.server.site import connect, read_answer, status

NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n\t ",
    "text": b"{inputs}",
    "single quotes": b"{'inputs': 'x'}",
    "a comma too many": b'{"inputs": "x",}',
    "a comment": b'{"inputs": "x" /* y */}',
    "half of one": b'{"inputs": "x"',
    "two of them": b'{"inputs": "x"}{"inputs": "x"}',
    "a form": b"inputs=x&task=target",
    "a line break in a string": b'{"inputs": "a\nb"}',
    "an unknown escape": b'{"inputs": "\\x41"}',
    "a leading zero": b'{"inputs": "x", "version": 01}',
    "NUL": b"\0",
}
NOT_AN_OBJECT: tuple[Any, ...] = ([], [{"inputs": "x"}], "inputs", None, True, 3, 0.5)
ENCODED: dict[str, bytes] = {
    "UTF-16": '{"inputs": "x"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"inputs": "x"}'.encode("utf-16-le"),
    "UTF-32": '{"inputs": "x"}'.encode("utf-32"),
    "Latin-1": '{"inputs": "é"}'.encode("latin-1"),
    "a byte order mark": b'\xef\xbb\xbf{"inputs": "x"}',
    "half a character": b'{"inputs": "\xc3"}',
    "a long zero": b'{"inputs": "\xc0\x80"}',
    "a surrogate": b'{"inputs": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"inputs": "\xf4\x90\x80\x80"}',
}
DEEP = 100_000
TWICE: tuple[bytes, ...] = (
    b'{"inputs": "a", "inputs": "a"}',
    b'{"inputs": "a", "inputs": "b", "prompt": "c"}',
    b'{"task": "target", "inputs": "x", "task": "neighbour"}',
    b'{"inputs": "x", "inp\\u0075ts": "y"}',
    b'{"inputs": {"text": "a", "text": "b"}}',
    b'{"inputs": "x", "parameters": {"seed": 1, "seed": 2}}',
    b'{"prompt": "x", "stop": [{"a": 1, "a": 2}]}',
)
SURROGATES = (r'"\ud800"', r'"\udfff"', r'"a\ud83dz"', r'"\ude00\ud83d"', r'{"text": "\ud800"}', r'{"\ud800": "x"}')
TEXT_FIELD = {"/v1/completions": "prompt", "/v1/chat/completions": "messages"}
LONG = "word " * 2_000_000


@pytest.mark.parametrize("body", [*NOT_JSON.values(), *NOT_AN_OBJECT], ids=[*NOT_JSON, *map(str, NOT_AN_OBJECT)])
def test_G01_no_object(attack: Attack, body: Any) -> None:
    """Nothing, no JSON, or JSON that is not an object."""
    code = "invalid_json" if isinstance(body, bytes) else "invalid_request"
    attack.all_refused(400, code, [(route, body) for route in ROUTES])


@pytest.mark.parametrize("body", ENCODED.values(), ids=ENCODED)
def test_G02_another_encoding(attack: Attack, body: bytes) -> None:
    """UTF-8 alone, and no mark in front."""
    attack.all_refused(400, "invalid_json", [(route, body) for route in ROUTES])


@pytest.mark.parametrize(
    "deep",
    [b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[" * 33 + b"]" * 33],
    ids=["begun", "lists", "objects", "a little"],
)
def test_G03_nested_deep(attack: Attack, deep: bytes) -> None:
    """A hundred thousand levels, and one too many."""
    bodies = (deep, b'{"inputs": ' + deep + b"}", b'{"prompt": ' + deep + b"}")
    attack.all_refused(400, "invalid_json", [(route, body) for route in ROUTES for body in bodies])


@pytest.mark.parametrize("body", TWICE)
def test_G04_a_key_twice(attack: Attack, body: bytes) -> None:
    """Alike or not, at any depth, and however it is spelt."""
    attack.all_refused(400, "invalid_json", [(route, body) for route in ROUTES])


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("max_tokens", "max_new_tokens"),
        ("maxNewTokens", "max_new_tokens"),
        ("temprature", "temperature"),
        ("topk", "top_k"),
        ("stops", "stop"),
    ],
)
def test_G05_an_unknown_field(attack: Attack, field: str, meant: str) -> None:
    """With what was probably meant; nothing that is not honoured is passed over."""
    for error in attack.all_refused(400, "unknown_field", [with_parameters(route, **{field: 5}) for route in GENERATE]):
        assert f"did you mean {meant}?" in error["message"]
    attack.all_refused(400, "unknown_field", [with_fields(route, **{field: 5}) for route in OURS])
    many = {"requests": [{"inputs": "x"}, {"inputs": "x", field: 5}]}
    (error,) = attack.all_refused(400, "unknown_field", [("/generate", many)])
    assert error["param"] == "requests[1]"
    if field != "max_tokens":
        return
    crowd = {f"{field}{number}": 1 for number in range(100_000)}
    attack.all_refused(400, "invalid_json", [(route, {**question(route), **crowd}) for route in ROUTES])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400 + ".0"])
def test_G06_no_number(attack: Attack, number: str) -> None:
    """Wherever it stands: in a field that is known, in one that is not, in place of a text, deep inside."""
    fields = ("temperature", "inputs", "prompt", "nobody", "task", "model", "version", "logit_bias")
    cases = [
        raw(route, **{field: form % number}) for route in ROUTES for field in fields for form in ("%s", '{"a": [%s]}')
    ]
    attack.all_refused(400, "json_nan", cases)


@pytest.mark.parametrize("text", SURROGATES)
def test_G07_half_a_character(attack: Attack, text: str) -> None:
    """Half of a surrogate pair is no text, in a value or in a key."""
    cases = [raw(route, **{field: text}) for route in ROUTES for field in ("inputs", "prompt", "messages", "task", "a")]
    attack.all_refused(400, "invalid_json", cases)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0" * 20, "\x01\x02\x7f", "\ufffe\uffff", "\u202eabc", "\r\n\t\v"])
def test_G08_a_nul(attack: Attack, text: str) -> None:
    """Characters like others: tokenised, and told as they are."""
    for route in ("/generate", "/generate_stream", "/classify", "/v1/completions"):
        attack.right(attack.ask(route, question(route, text)))
    assert attack.right(attack.ask("/render", {"inputs": text})).json()["text"] == text


@pytest.mark.parametrize(
    "value", [..., None, 3, 0.5, True, [], ["a"], [None], {}, {"text": 1}, {"text": None}, {"text": ["a"]}]
)
def test_G09_no_text(attack: Attack, value: Any) -> None:
    """Missing, null, a number, a list, an object of other things; of /v1 what is neither text nor ids."""
    names = {route: TEXT_FIELD.get(route, "inputs") for route in ROUTES}
    good_ids = value == ["a"]  # a list of texts is several prompts
    cases = []
    for route, name in names.items():
        if route == "/v1/completions" and good_ids:
            continue
        body = {key: one for key, one in question(route).items() if key != name}
        cases.append((route, body if value is ... else {**body, name: value}))
    attack.all_refused(400, "invalid_request", cases)
    bad: list[Any] = [[-1], [1.5], ["a", 1], [[]], [[1], "a", None], [True], [10**30], [[1, "a"]], [384]]
    attack.all_refused(400, "invalid_request", [("/v1/completions", {"model": "target", "prompt": one}) for one in bad])


def test_G10_an_empty_text(attack: Attack) -> None:
    """The soft prompt alone, and of the bare base its BOS."""
    for route in ("/generate", "/generate_stream", "/classify", "/render", "/v1/completions"):
        for task in ("target", "base"):
            attack.right(attack.ask(route, question(route, "", task)))
    for inputs in ("", {"text": ""}):
        answer = attack.right(attack.ask("/generate", {"task": "target", "inputs": inputs})).json()
        assert answer["usage"]["soft_tokens"] == 4


@pytest.mark.parametrize("route", ROUTES)
def test_G11_ten_megabytes(attack: Attack, route: str) -> None:
    """Refused at the limit of a body, so that nothing tokenises it; by its length, or in chunks where it says none."""
    attack.all_refused(413, "body_too_large", [(route, question(route, LONG))])
    data = json.dumps(question(route, LONG)).encode()
    with attack.unharmed(413, data) as request_id, connect(attack.victim.url) as connection:
        head = (
            f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nx-request-id: {request_id}"
        )
        connection.sendall(f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n{2**22 + 1:x}\r\n".encode())
        connection.sendall(data[: 2**22 + 1] + b"\r\n")
        answer = read_answer(connection)
    assert status(answer) == 413
    assert b'"body_too_large"' in answer


@pytest.mark.parametrize("words", [400, 5_000, 700_000])
def test_G12_more_than_the_context(attack: Attack, words: int) -> None:
    """Nothing is cut in silence: the counts are told, or the characters where those alone say so."""
    routes = [route for route in ROUTES if route != "/v1/chat/completions"]
    cases = [(route, question(route, "word " * words)) for route in routes]
    for error in attack.all_refused(400, "context_length_exceeded", cases):
        counted = "input " in error["message"] and " + soft prompt 4 + max_new_tokens " in error["message"]
        assert counted == (words == 400)
        assert counted or error["message"].endswith(" characters has more than 256 tokens")


@pytest.mark.parametrize("new", [247, 256, 4096, 2**20])
def test_G13_more_than_the_context_with_what_is_to_come(attack: Attack, new: int) -> None:
    """A text that fits, and more new ids than there is room for: 6 + 4 + 247 is one too many."""
    cases = [
        ("/generate", {**question("/generate", "words"), "parameters": {"max_new_tokens": new}}),
        ("/generate_stream", {**question("/generate", "words"), "parameters": {"max_new_tokens": new}}),
        ("/v1/completions", {**question("/v1/completions", "play words"), "max_tokens": new}),
    ]
    for error in attack.all_refused(400, "context_length_exceeded", cases):
        assert f"soft prompt 4 + max_new_tokens {new} = " in error["message"]
        assert error["message"].endswith(" tokens > 256")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "identity", "x", ""])
def test_G38_an_encoding(attack: Attack, encoding: str) -> None:
    """Nothing is unpacked."""
    packed: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
    pack = packed.get(encoding, bytes)
    cases = [(route, pack(json.dumps(question(route)).encode())) for route in ROUTES]
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    attack.all_refused(415, "unsupported_content_encoding", cases, headers=headers)


@pytest.mark.parametrize(
    "kind",
    [
        "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "*/*",
        "application/json; charset=utf-16", 'application/json; charset="latin-1"', "application/octet-stream",
        "application/json, text/plain", "json",
    ],
)  # fmt: skip
def test_G39_another_media_type(attack: Attack, kind: str) -> None:
    """None, another one, or another charset; a page cannot send JSON to us as plain text."""
    headers = {"Content-Type": kind} if kind else {}
    cases = [(route, question(route)) for route in ROUTES]
    attack.all_refused(415, "unsupported_media_type", cases, headers=headers)
    for right in (
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
    ):
        attack.right(attack.ask("/generate", question("/generate"), headers={"Content-Type": right}))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "PROPFIND"])
def test_G40_another_method(attack: Attack, method: str) -> None:
    """405, with the one that there is in `Allow` and, where there is a body, in words."""
    for route in (*OURS, *OPENAI):
        with attack.unharmed(405) as request_id:
            answer = attack.ask(route, b"", method=method, request_id=request_id, headers={})
        assert answer.headers["allow"] == "POST"
        if method == "HEAD":
            assert answer.status_code == 405
            assert answer.content == b""
            continue
        attack.check(answer, 405, "method_not_allowed", b"")
        assert "POST" in answer.json()["error"]["message"]
    with connect(attack.victim.url) as connection:  # no client library asks a server, and not a proxy, for this
        connection.sendall(b"CONNECT /generate HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(read_answer(connection)) in {400, 405}
