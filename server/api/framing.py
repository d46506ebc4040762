"""Where an HTTP/1.1 request begins and ends, or why it is none: decided here, in front of whichever parser.

Pure: bytes go in as they come, pieces come out, written anew in the one way that parsers read alike. A piece holds
nothing that was not judged, and how the bytes were split changes no verdict. Knows the meaning of the headers that
say where a body ends, and of no other.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.errors import Fault, HeadersTooLarge, Invalid, MethodNotAllowed, UrlTooLong

METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH REPORT SEARCH UNLOCK".split()
)
"""Those that a route may refuse with 405, known to both parsers. CONNECT is refused here, others are no methods."""
REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.([01])")
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
ILLEGAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r[^\n]")
"""Control characters, and a CR that ends no line."""
LENGTH = re.compile(rb"[0-9]{1,18}")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;.*)?")
CHUNK_LINE_BYTES = 256
"""A chunk's size with its extensions, which nobody reads."""
SMALL_CHUNKS, SMALL_BYTES = 4096, 64
"""So many chunks may be as small as they like; beyond them they have so many bytes each, one with another."""
LINE_SLACK = 32
"""What a request line has beside its target."""
EVERY_METHOD = "GET, HEAD, POST, PUT, PATCH, DELETE"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of a target, bytes of all header lines, header lines."""

    url: int
    headers: int
    lines: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Of one request, for the parser. `begins`: its head is in here; `ends`: and its last byte.

    `waits`: its client may hold the body back until it is asked for it. `lines`: of a head, the request line and each
    header, as they are in `data`.
    """

    data: bytes
    begins: bool
    ends: bool
    waits: bool
    lines: Sequence[bytes] = ()


class Framing:
    """Of one connection, its requests one after the other."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._buffer = bytearray()
        self._seen = 0
        self._fault: Fault | None = None
        self._start()

    def _start(self) -> None:
        self._lines: list[bytes] = []
        self._blank = False
        self._header_bytes = self._hosts = 0
        self._lengths: list[bytes] = []
        self._codings: list[bytes] = []
        self._left = self._chunks = self._body_bytes = 0
        self._waits = False
        self._version = b""
        self._step: Callable[[], bytes | None] = self._head

    @property
    def begun(self) -> bool:
        """Whether some of a request is here that no piece was made of."""
        return bool(self._buffer or self._lines or self._blank)

    @property
    def held(self) -> int:
        """Bytes."""
        return len(self._buffer)

    def take(self, data: bytes) -> None:
        self._buffer += data

    def piece(self) -> Piece | None:
        """What is judged of one request, None where more is needed. Raises the Fault that ends the connection."""
        if self._fault is not None:
            raise self._fault
        begins, parts = self._step == self._head, []
        ends = False
        try:
            while not ends and (part := self._step()) is not None:
                parts.append(part)
                ends = self._step == self._head
        except Fault as fault:
            self._fault = fault
            if not parts:
                raise
        if not parts:
            return None
        piece = Piece(b"".join(parts), begins, ends, self._waits, self._lines if begins else ())
        if ends:
            self._start()
        return piece

    def _line(self, most: int, too_long: Callable[[], Fault]) -> bytes | None:
        """The next line without its CRLF, of at most so many bytes; None while it is not whole.

        Judged as if its bytes came one by one: the first that is wrong decides.
        """
        end = self._buffer.find(b"\n", self._seen, most + 2)
        stop = min(len(self._buffer), most + 2) if end < 0 else end + 1
        if ILLEGAL.search(self._buffer, max(self._seen - 1, 0), stop):
            raise _no_http("a line has a control character")
        if end < 0:
            if len(self._buffer) >= most + 2:
                raise too_long()
            self._seen = len(self._buffer)
            return None
        if end == 0 or self._buffer[end - 1] != 13:
            raise _no_http("a line ends without CR")
        line = bytes(self._buffer[: end - 1])
        del self._buffer[: end + 1]
        self._seen = 0
        return line

    def _head(self) -> bytes | None:
        if not self._lines and not self._seen and (plain := self._plain_lines()):
            self._request_line(plain[0])
            for one in plain[1:]:
                self._header(one)
            return self._whole_head()
        while True:
            if not self._lines:
                line = self._line(self._bounds.url + LINE_SLACK, self._long_line)
                if line is None:
                    return None
                if not line and not self._blank:  # some clients end a body with one more
                    self._blank = True
                    continue
                self._request_line(line)
                continue
            line = self._line(max(self._bounds.headers - self._header_bytes - 2, 0), self._too_large)
            if line is None:
                return None
            if not line:
                return self._whole_head()
            self._header(line)

    def _plain_lines(self) -> Sequence[bytes]:
        """Of a head that is all here, its lines well ended and not too long, as nearly all are: looked at in one go.
        None of any other, which is judged line by line."""
        end = self._buffer.find(b"\r\n\r\n", 0, self._bounds.headers)
        if end <= 0 or ILLEGAL.search(self._buffer, 0, end + 2):
            return ()
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        if not lines[0] or len(lines[0]) > self._bounds.url or any(b"\n" in line for line in lines):
            return ()
        del self._buffer[: end + 4]
        return lines

    def _request_line(self, line: bytes) -> None:
        match = REQUEST_LINE.fullmatch(line)
        if match is None:
            raise _no_http()
        method, target, self._version = match.groups()
        if len(target) > self._bounds.url:
            raise self._long_url()
        if method == b"CONNECT":
            fault = MethodNotAllowed("method_not_allowed", "this is no proxy")
            fault.headers["Allow"] = EVERY_METHOD
            raise fault
        if method not in METHODS:
            raise _no_http("the method is unknown")
        if not target.startswith(b"/") or b"#" in target:
            raise _no_http("the target is not a path")
        self._lines.append(line)

    def _header(self, line: bytes) -> None:
        self._header_bytes += len(line) + 2
        if len(self._lines) > self._bounds.lines:
            raise self._too_large()
        name, colon, value = line.partition(b":")
        if not colon or TOKEN.fullmatch(name) is None:
            raise _no_http("a header has no name")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"content-length":
            self._lengths.append(value)
        elif name == b"transfer-encoding":
            self._codings.append(value.lower())
        elif name == b"expect":
            if self._version == b"0":  # RFC 9110: it is not to be heeded there, and one of the parsers would
                return
            self._waits = True
        elif name == b"host":
            self._hosts += 1
        elif name == b"upgrade":  # nothing is switched to: the request is answered as if it did not ask
            return
        self._lines.append(name + b": " + value)

    def _whole_head(self) -> bytes:
        if self._hosts != 1:
            raise Invalid("invalid_request", "the Host header is missing or doubled")
        if self._codings:
            if self._codings != [b"chunked"] or self._lengths or self._version == b"0":
                raise _no_http("a body is chunked, or it has a length")
            self._step = self._chunk
        elif self._lengths:
            if len(self._lengths) > 1 or LENGTH.fullmatch(self._lengths[0]) is None:
                raise _no_http("Content-Length is one number")
            self._left = int(self._lengths[0])
            self._step = self._counted if self._left else self._head
        return b"\r\n".join(self._lines) + b"\r\n\r\n"

    def _counted(self) -> bytes | None:
        data = self._data()
        if not self._left:
            self._step = self._head
        return data

    def _data(self) -> bytes | None:
        """As much of what is left as is here."""
        if not self._buffer:
            return None
        if self._left >= len(self._buffer):
            data = bytes(self._buffer)
            self._buffer.clear()
        else:
            data = bytes(self._buffer[: self._left])
            del self._buffer[: self._left]
        self._left -= len(data)
        return data

    def _chunk(self) -> bytes | None:
        line = self._line(CHUNK_LINE_BYTES, _bad_chunk)
        if line is None:
            return None
        match = CHUNK.fullmatch(line)
        if match is None:
            raise _bad_chunk()
        self._left = int(match[1], 16)
        self._chunks += 1
        self._body_bytes += self._left
        if self._chunks > SMALL_CHUNKS + self._body_bytes // SMALL_BYTES:
            raise _no_http("the chunks are too small")
        self._step = self._chunk_data if self._left else self._last
        return b"%x\r\n" % self._left

    def _chunk_data(self) -> bytes | None:
        data = self._data()
        if not self._left:
            self._step = self._chunk_end
        return data

    def _chunk_end(self) -> bytes | None:
        line = self._line(0, _bad_chunk)
        if line is None:
            return None
        self._step = self._chunk
        return b"\r\n"

    def _last(self) -> bytes | None:
        line = self._line(0, _trailers)
        if line is None:
            return None
        self._step = self._head
        return b"\r\n"

    def _long_line(self) -> Fault:
        """A URL too long, if that is what it is."""
        method, space, _ = self._buffer[:LINE_SLACK].partition(b" ")
        return self._long_url() if space and bytes(method) in METHODS else _no_http()

    def _long_url(self) -> Fault:
        return UrlTooLong("url_too_long", f"a URL may have {self._bounds.url} bytes")

    def _too_large(self) -> Fault:
        told = f"{self._bounds.lines} headers of {self._bounds.headers} bytes together"
        return HeadersTooLarge("headers_too_large", f"a request may have {told}")


def _no_http(why: str = "") -> Fault:
    return Invalid("invalid_request", f"this is not HTTP/1.1{why and ': '}{why}")


def _bad_chunk() -> Fault:
    return _no_http("a chunk is not one")


def _trailers() -> Fault:
    return _no_http("trailers are not taken")
