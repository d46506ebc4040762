"""What the fuzzers judge by: that each of its rules sees what it is there for."""

import json
from random import Random
from typing import Any

import pytest

from tests import models
from tests.fuzz.bodies import routes
from tests.fuzz.findings import MOST, Findings, write
from tests.fuzz.grammar import ANY, Request, exact
from tests.fuzz.json_changes import changed
from tests.fuzz.ledger import Change, Ledger, Told
from tests.fuzz.mutations import split
from tests.fuzz.reference import BadTemplateError, parse, render
from tests.fuzz.speech import Answer, CutError, NotHttpError, answers_in, faults

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: a\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-request-id: a\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
ERROR = {"message": "no", "type": "invalid_request_error", "param": None, "code": "invalid_request"}


def error(status: int, **other: Any) -> Answer:
    return Answer(status, {b"x-request-id": b"a"}, json.dumps({"error": {**ERROR, **other}}).encode())


def test_answers_are_read_one_after_the_other() -> None:
    """With a length, in chunks, behind an interim one; to HEAD without a body."""
    head = b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 9\r\n\r\n"
    found = answers_in(GOOD + b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + head + GOOD, ["GET", "POST", "HEAD", "GET"])
    assert [(answer.status, answer.body) for answer in found] == [(200, b"{}"), (200, b"{}"), (405, b""), (200, b"{}")]


@pytest.mark.parametrize("at", range(1, len(CHUNKED)))
def test_an_answer_that_is_cut_is_no_other(at: int) -> None:
    """Wherever it ends, and how many came before it is told."""
    with pytest.raises(CutError) as raised:
        answers_in(GOOD + CHUNKED[:at], [])
    assert raised.value.args[1] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header: 1\r\ncontent-length: 0\r\n\r\n",
        GOOD + b"junk and more of it",
        CHUNKED[:-12] + b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_what_is_no_http_is_found(data: bytes) -> None:
    """An answer in the midst of another one too."""
    with pytest.raises(NotHttpError) as raised:
        answers_in(data, [])
    assert not isinstance(raised.value, CutError)


def test_answers_that_are_not_ours_are_found() -> None:
    """A status, a code or an object that the table has not, 500, and one without an id."""
    assert not faults(error(400))
    assert not faults(Answer(200, {b"x-request-id": b"a"}, b""))
    assert faults(Answer(200, {}, b"")) == ["200: no x-request-id"]
    assert faults(error(402)) == ["402: no status of ours"]
    assert "500: internal error" in faults(error(500, code="internal"))
    assert faults(error(404)) == ["404: code invalid_request"]
    assert faults(error(400, more=1)) == ["400: another error object"]
    assert faults(error(400, message="x" * 5000)) == ["400: 5101 bytes"]
    assert "no error object" in faults(Answer(400, {b"x-request-id": b"a"}, b"Bad Request"))[0]


def test_impossible_answers_are_found() -> None:
    """Older than what was acknowledged, of a deleted task, of nobody, of another digest, not the one asked for."""
    ledger = Ledger()
    ledger.changed("t", Change(0, 1, 1, "a"))
    ledger.changed("t", Change(2, 3, 2, "b"))

    def wrong(*told: Any) -> list[str]:
        return list(ledger.faults("t", Told(*told)))

    assert not wrong(4, 5, 2, "b")
    assert not wrong(2.5, 5, 1, "a")
    assert not wrong(4, 5, 1, "a", 1)
    assert wrong(4, 5, 1, "a") == ["version 1 answered after 2 was acknowledged"]
    assert wrong(4, 5, 2, "a") == ["version 2 has another digest"]
    assert wrong(4, 5, 3, "c") == ["nobody made version 3"]
    assert wrong(0, 1, 2, "b") == ["version 2 was made after the answer"]
    assert wrong(4, 5, 2, "b", 1) == ["version 2 answered for 1"]
    assert wrong(4, 5, None, None) == ["the task was there, and was not found"]
    ledger.changed("t", Change(6, 7, None, None))
    assert not wrong(6.5, 8, 2, "b")
    assert not wrong(8, 9, None, None)
    assert wrong(8, 9, 2, "b") == ["version 2 answered after it was deleted"]
    ledger.changed("t", Change(10, 11, 4, "d"))
    assert wrong(12, 13, None, None) == ["the task was there, and was not found"]


def test_the_reference_renders_as_the_documents_say() -> None:
    """Braces, slots, BOS behind leading rows, special tokens in literals alone, the oldest text cut."""
    made = models.tokenizer()
    found = render(parse("{soft:2}{{{a}</s>{soft:1}", 3), 3, {"a": "<s>{a}"}, made)
    assert found.text == "{<s>{a}</s>"
    assert found.slots[0] == (0, 0, 2)
    assert (found.ids[0], found.ids[-1], found.ids.count(0), found.rows) == (0, 1, 1, 3)
    assert found.slots[1] == (2 + len(found.ids), 2, 1)
    cut = render(parse("{a}", 0), 0, {"a": "play some jazz"}, made, 2)
    assert cut.ids == [0, render(parse("{a}", 0), 0, {"a": "play some jazz"}, made).ids[-1]]
    for template in ("{", "}", "{soft}", "{soft:01}", "{a b}", "{}", "{soft:2}", "{é}", "{a}}"):
        with pytest.raises(BadTemplateError):
            parse(template, 3)


def test_the_same_case_is_the_same_bytes() -> None:
    """What a name has drawn once, it draws again; segments add up to what was to be sent."""
    for name in ("1-0", "1-1"):
        one, other = (exact(Random(name), last=True) for _ in range(2))
        assert one == other
        data = one.encoded()
        assert b"".join(split(data, Random(name))) == data
        assert changed({"a": [1]}, Random(name), "m") == changed({"a": [1]}, Random(name), "m")


def test_a_request_says_how_long_it_is() -> None:
    """By its length or in chunks, never both."""
    assert Request("POST", "/x", (), b"abc").encoded() == b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    sent = Request("POST", "/x", (), b"abc", (2,)).encoded()
    assert sent == b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert 500 not in ANY


def test_bodies_come_from_the_document() -> None:
    """Every operation that takes JSON, with its examples and the statuses it lists, less 500."""
    schemas = {"A": {"examples": [{"a": 1}]}, "B": {"anyOf": [{"$ref": "#/components/schemas/A"}]}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/B"}}}
    operation = {"requestBody": {"content": content}, "responses": {"200": {}, "500": {}}}
    document = {"paths": {"/a": {"post": operation, "get": {"responses": {}}}}, "components": {"schemas": schemas}}
    [route] = routes(document)
    assert (route.method, route.bodies, route.answers) == ("post", ({"a": 1},), frozenset({200}))


def test_what_is_found_is_written(tmp_path: Any) -> None:
    """So many whole violations, all of them counted, with what was sent in hexadecimal."""
    found = Findings("wire")
    for number in range(MOST + 5):
        found.claim(False, f"1-{number}", "wrong", b"\xff")
    assert found.claim(True, "1-0", "right")
    where = {"cpu": "a", "cores": 2, "python": "3", "commit": "c", "command": "x"}
    page = write(tmp_path, where, [found])
    told = json.loads((tmp_path / "fuzz.json").read_text())["parts"]["wire"]
    assert (len(told["violations"]), told["counts"]["violations"]) == (MOST, MOST + 5)
    assert told["violations"][0] == {"case": "1-0", "what": "wrong", "sent": "ff"}
    assert "- wire, case `1-0`: wrong" in page
