"""Our framing against both parsers: both read alike what it lets through, however the bytes were split."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.api.framing import CHUNK_LINE_BYTES, METHODS, SMALL_CHUNKS, Bounds, Framing
from server.errors import Fault

BOUNDS = Bounds(url=64, headers=256, lines=8)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKED_HEAD = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(slots=True)
class Judged:
    """`requests`: what was let through of each, and whether it is whole; `fault`: a status and a code; and `why`."""

    requests: list[tuple[bytes, bool]] = field(default_factory=list)
    fault: tuple[int, str] | None = None
    why: str = ""
    held: int = 0


def judged(*pieces: bytes, bounds: Bounds = BOUNDS) -> Judged:
    framing, found = Framing(bounds), Judged()
    try:
        for data in pieces:
            framing.take(data)
            while (piece := framing.piece()) is not None:
                if piece.begins:
                    found.requests.append((b"", False))
                before, _ = found.requests[-1]
                found.requests[-1] = (before + piece.data, piece.ends)
    except Fault as fault:
        found.fault, found.why = (fault.rule.status, fault.code), fault.message
    else:
        found.held = framing.held
    return found


@dataclass(slots=True)
class Read:
    """One request as a parser tells it."""

    method: bytes = b""
    target: bytes = b""
    version: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        assert not self.whole
        self.whole = True


def by_httptools(data: bytes) -> Read:
    found = Read()
    parser = httptools.HttpRequestParser(found)
    parser.feed_data(data)
    found.method, found.version = parser.get_method(), parser.get_http_version()
    url, (path, _, query) = httptools.parse_url(found.target), found.target.partition(b"?")
    assert (path, query) == (url.path, url.query or b"")
    return found


def by_h11(data: bytes) -> Read:
    found = Read()
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    while True:
        event: Any = connection.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            break
        if isinstance(event, h11.Request):
            found.method, found.target = event.method, event.target
            found.version = event.http_version.decode()
            found.headers = [(name, value) for name, value in event.headers]
        elif isinstance(event, h11.Data):
            found.body += event.data
        else:
            assert isinstance(event, h11.EndOfMessage)
            assert not event.headers
            found.whole = True
            if connection.their_state is h11.MUST_CLOSE:
                break
    assert connection.trailing_data[0] == b""
    return found


TARGETS = st.one_of(
    st.sampled_from(["/", "/a/b?c=d?e", "//evil", "/%2e%2e", "*", "http://a/", "a:443", "/#x", "/ ", "/\x80", "", "?"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12).map(lambda text: "/" + text),
    st.integers(60, 66).map(lambda size: "/" * size),
)
NAMES = [method.decode() for method in METHODS]
VERBS = st.sampled_from(
    ["GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "PRI", "M-SEARCH", *NAMES]
)
VERSIONS = st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "HTTP/1.1 "])
HEADERS = st.one_of(
    st.sampled_from(
        [
            "Content-Length: 5", "Content-Length: 5", "Content-Length: 0", "Content-Length: +5", "Content-Length: 5, 5",
            "Content-Length: -1", "Content-Length:", "Content-Length: 100000000000000000000", "Content-Length: 05",
            "Content-Length : 5", "Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED ", "Transfer-Encoding: x",
            "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity",
            "Transfer-Encoding:\x0bchunked", "Connection: close", "Connection: keep-alive, Upgrade", "Upgrade: h2c",
            "Upgrade: websocket", "Connection: Upgrade", "Expect: 100-continue", "Host: b", " folded", "\tfolded",
            "Name", ": nameless", "A B: c", "A: \x00", "A: \x7f", "A: b\rc", "A: b\nc", "Ä: b",
            "Proxy-Connection: close", "Trailer: a", "TE: trailers", "Content-Encoding: gzip", "X:  a \t b \t",
        ]
    ),
    st.tuples(st.text(max_size=4), st.text(st.characters(max_codepoint=255), max_size=8)).map(": ".join),
    st.integers(1, 260).map(lambda size: "A: " + "a" * size),
)  # fmt: skip
ENDS = st.sampled_from(["\r\n"] * 20 + ["\n", "\r", "\r\r\n"])
BODIES = st.one_of(
    st.sampled_from(
        [
            "", "hello", "hello, and more", "5\r\nhello\r\n0\r\n\r\n", "5;x=y\r\nhello\r\n0\r\n\r\n", "5\r\nhell",
            "5 \r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", "0\r\nTrailer: x\r\n\r\n", "zz\r\n", "5\nhello\n0\n\n", "-1\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhelloX\r\n", "A\r\n0123456789\r\n00\r\n\r\n",
            "ffffffffffffffffff\r\n", "5;" + "x" * 300 + "\r\n", "5\r\nhello\r\n\r\n", "5;\x00\r\n",
        ]
    ),
    st.text(st.characters(max_codepoint=255), max_size=20),
)  # fmt: skip


@st.composite
def requests(draw: Any) -> bytes:
    """One or more, many of them almost right."""
    text = ""
    for _ in range(draw(st.integers(1, 2))):
        text += draw(st.sampled_from([""] * 9 + ["\r\n", "\r\n\r\n"]))
        line = " ".join([draw(VERBS), draw(TARGETS), draw(VERSIONS)])
        headers = [*draw(st.sampled_from([["Host: a"]] * 5 + [[]])), *draw(st.lists(HEADERS, max_size=4))]
        text += "".join(each + draw(ENDS) for each in [line, *headers, ""]) + draw(BODIES)
    data = bytearray(text.encode("latin-1", "replace"))
    if data and draw(st.integers(0, 3)) == 0:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(requests())
@example(GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n")
@settings(max_examples=300, deadline=None)
def test_what_is_let_through_is_read_alike(data: bytes) -> None:
    """By both parsers, to the same method, target, version, headers and body, with the end where framing has it."""
    for passed, whole in judged(data).requests:
        ours, theirs = by_httptools(passed), by_h11(passed)
        assert ours == theirs
        assert ours.whole == whole


@given(requests(), st.lists(st.integers(0, 400), max_size=6))
@example(b"GET /" + b"a b" * 40 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [])
@settings(max_examples=300, deadline=None)
def test_how_bytes_are_split_changes_nothing(data: bytes, cuts: list[int]) -> None:
    """Whole, in any pieces, or one by one: the same requests, the same fault."""
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    single = [data[place : place + 1] for place in range(len(data))]
    assert judged(data) == judged(*pieces) == judged(*single)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (GET + b"\r\n", None),
        (GET.replace(b"/ ", b"/%s " % (b"a" * 63)) + b"\r\n", None),
        (GET.replace(b"/ ", b"/%s " % (b"a" * 64)) + b"\r\n", (414, "url_too_long")),
        (b"GET /" + b"a" * 200, (414, "url_too_long")),
        (b"\x80" * 200, (400, "invalid_request")),
        (GET + b"A: b\r\n" * 7 + b"\r\n", None),
        (GET + b"A: b\r\n" * 8 + b"\r\n", (431, "headers_too_large")),
        (GET + b"A: %s\r\n\r\n" % (b"a" * 242), None),
        (GET + b"A: %s\r\n\r\n" % (b"a" * 243), (431, "headers_too_large")),
        (GET + b"A: " + b"a" * 1000, (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\n\r\n", (400, "invalid_request")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", (400, "invalid_request")),
        (b"CONNECT a:443 HTTP/1.1\r\n", (405, "method_not_allowed")),
        (POST + b"Content-Length: 999999999999999999\r\n\r\n", None),
        (POST + b"Content-Length: 1000000000000000000\r\n\r\n", (400, "invalid_request")),
        (CHUNKED + b"5;%s\r\n" % (b"x" * (CHUNK_LINE_BYTES - 2)), None),
        (CHUNKED + b"5;%s" % (b"x" * CHUNK_LINE_BYTES), (400, "invalid_request")),
        (CHUNKED + b"1\r\nx\r\n" * SMALL_CHUNKS, None),
        (CHUNKED + b"1\r\nx\r\n" * (SMALL_CHUNKS + 100), (400, "invalid_request")),
    ],
    ids=lambda value: repr(value[-20:]) if isinstance(value, bytes) else str(value),
)
def test_bounds_are_exact(data: bytes, fault: tuple[int, str] | None) -> None:
    """What is just allowed passes, one more is refused."""
    assert judged(data).fault == fault


NO_HTTP = "this is not HTTP/1.1"
TWO_ENDS = f"{NO_HTTP}: a body is chunked, or it has a length"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HELLO\r\n", NO_HTTP),
        (b"\r\n\r\n", NO_HTTP),
        (b"GET  / HTTP/1.1\r\n", NO_HTTP),
        (b"GET / HTTP/2.0\r\n", NO_HTTP),
        (b"BREW / HTTP/1.1\r\n", f"{NO_HTTP}: the method is unknown"),
        (b"GET http://a/ HTTP/1.1\r\n", f"{NO_HTTP}: the target is not a path"),
        (b"GET /#x HTTP/1.1\r\n", f"{NO_HTTP}: the target is not a path"),
        (GET + b"A: \x0b\r\n", f"{NO_HTTP}: a line has a control character"),
        (GET + b"A: b\rc\r\n", f"{NO_HTTP}: a line has a control character"),
        (GET + b"A: b\n", f"{NO_HTTP}: a line ends without CR"),
        (GET + b"Name\r\n", f"{NO_HTTP}: a header has no name"),
        (GET + b"A : b\r\n", f"{NO_HTTP}: a header has no name"),
        (GET + b" folded\r\n", f"{NO_HTTP}: a header has no name"),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "the Host header is missing or doubled"),
        (GET + b"Host: b\r\n\r\n", "the Host header is missing or doubled"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", TWO_ENDS),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", TWO_ENDS),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", TWO_ENDS),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", TWO_ENDS),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", TWO_ENDS),
        (CHUNKED.replace(b"/1.1", b"/1.0"), TWO_ENDS),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", f"{NO_HTTP}: Content-Length is one number"),
        (POST + b"Content-Length: 5, 5\r\n\r\n", f"{NO_HTTP}: Content-Length is one number"),
        (POST + b"Content-Length: +5\r\n\r\n", f"{NO_HTTP}: Content-Length is one number"),
        (POST + b"Content-Length:\r\n\r\n", f"{NO_HTTP}: Content-Length is one number"),
        (CHUNKED + b"x\r\n", f"{NO_HTTP}: a chunk is not one"),
        (CHUNKED + b"-1\r\n", f"{NO_HTTP}: a chunk is not one"),
        (CHUNKED + b"0x5\r\n", f"{NO_HTTP}: a chunk is not one"),
        (CHUNKED + b"5\r\nhelloX\r\n", f"{NO_HTTP}: a chunk is not one"),
        (CHUNKED + b"0\r\nA: b\r\n\r\n", f"{NO_HTTP}: trailers are not taken"),
    ],
    ids=lambda value: repr(value[-30:]) if isinstance(value, bytes) else value.rpartition(": ")[2],
)
def test_what_is_no_request_is_refused_for_what_it_is(data: bytes, why: str) -> None:
    """Here, whatever a parser behind would say; and no byte of what decides it gets there."""
    found = judged(data)
    assert found.why == why
    assert b"".join(passed for passed, _ in found.requests) in {
        b"",
        *(CHUNKED_HEAD + data for data in (b"", b"5\r\nhello", b"0\r\n")),
    }


def test_the_first_that_is_wrong_decides() -> None:
    """Also before its line is whole: nothing more of it is waited for."""
    assert judged(b"\x16\x03\x01").fault == (400, "invalid_request")
    assert judged(GET + b"A: b\x00").fault == (400, "invalid_request")
    assert judged(GET + b"A: b\n").fault == (400, "invalid_request")
    assert judged(CHUNKED + b"0\r\nX").fault is None
    assert judged(CHUNKED + b"0\r\nX:").fault == (400, "invalid_request")


def test_only_what_a_parser_needs_is_passed_on() -> None:
    """One space after a header's name, none around its value, a chunk's size alone, no switch to another protocol."""
    data = b"\r\n" + POST + b"a:\t b \r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n05;x=y\r\nhello\r\n0\r\n\r\n"
    (passed,) = judged(data).requests
    head = b"POST /x HTTP/1.1\r\nhost: a\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
    assert passed == (head + b"5\r\nhello\r\n0\r\n\r\n", True)


def test_later_requests_are_apart() -> None:
    """Each piece is of one request, however many came at once."""
    framing = Framing(BOUNDS)
    framing.take((GET + b"\r\n") * 3)
    pieces = [framing.piece() for _ in range(4)]
    assert [(piece.begins, piece.ends) for piece in pieces if piece] == [(True, True)] * 3
    assert pieces[3] is None
    assert not framing.begun
