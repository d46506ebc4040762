"""HTTP as it should not be: good requests changed, framings that two readers read in two ways, other protocols.

Knows bytes; no server.
"""

from collections.abc import Callable
from random import Random

WORDS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"\r\n ", b"%00", b"%0d%0a", b"\xff", b"\xc3\x28",
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.", b"GET ", b"CONNECT ", b"PRI * ",
    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n",
    b"Content-Length: 18446744073709551616\r\n", b"Content-Length: 100000000000000000000\r\n", b"Content-Length:\r\n",
    b"Content-Length: 0x5\r\n", b"Content-Length: 1e1\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n", b"Host: evil\r\n", b"Host: [\r\n", b"Host: a b\r\n", b"Host:\r\n",
    b"Content-Encoding: gzip\r\n", b"Expect: 200-ok\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n",
    b"Origin: null\r\n", b"Content-Type: text/plain\r\n", b'If-Match: "x"\r\n', b"Idempotency-Key: \xe9\r\n",
    b"Content-Digest: sha-256=:AAAA:\r\n", b"0\r\n\r\n", b"ffffffff\r\n", b"-1\r\n", b"1;a=b\r\n", b"G\r\n", b"{", b'"',
)  # fmt: skip
HELLO = bytes.fromhex(
    "16030100c8010000c403035a1c2b7e0000000000000000000000000000000000000000000000000000000020"
    "aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899000813021303130100ff0100"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
SOCKET = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
STRANGERS = (
    HELLO,
    PREFACE,
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x05\x01\x00",
    b"*1\r\n$4\r\nPING\r\n",
    b"stats\r\n",
    b"EHLO fuzz\r\nQUIT\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x00\x00\x00\x85\xffSMBr\x00\x00\x00\x00",
    b"GET /livez\r\n",
    b"GET /livez HTTP/0.9\r\n\r\n",
    b"GET http://evil/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    SOCKET,
    b"\r\n\r\n\r\n",
    b"",
)


def mutated(data: bytes, draw: Random) -> bytes:
    """Up to six changes, most of them in the heads."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        data = draw.choice(CHANGES)(data, draw)
    return data


def stranger(draw: Random) -> bytes:
    """Another protocol, whole, damaged, or noise."""
    data = draw.choice((*STRANGERS, draw.randbytes(draw.choice((1, 20, 3000)))))
    return mutated(data, draw) if draw.random() < 0.4 else data


def smuggled(draw: Random, inner: bytes) -> bytes:
    """A request whose body's end is told in two ways, with another one inside of what one of them calls the body."""
    lengths = draw.choice((f"{len(inner)}", f"{len(inner) + 5}", "0", "4"))
    length, codings = f"Content-Length: {lengths}", draw.choice(CODINGS)
    framings = (
        (length, codings),
        (codings, length),
        (length, "Content-Length: 1"),
        (f"Content-Length: +{lengths}",),
        (f"Content-Length: {lengths}, 0",),
        (f"Content-Length: 0{lengths}x",),
        ("Content-Length: -1",),
        (f"Content-Length: {10**20}",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
    )
    head = ["POST /render HTTP/1.1", "Host: localhost", "Content-Type: application/json", *draw.choice(framings)]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + draw.choice((b"0\r\n\r\n", b"")) + inner


CODINGS = ("Transfer-Encoding: chunked", "transfer-encoding: Chunked", "Transfer-Encoding: gzip, chunked")


def split(data: bytes, draw: Random) -> list[bytes]:
    """Into segments: one, a few anywhere, or the first bytes one by one."""
    chance = draw.random()
    if chance < 0.5 or len(data) < 2:
        return [data]
    if chance < 0.6:
        most = min(len(data), 40)
        return [*(data[at : at + 1] for at in range(most)), data[most:]]
    cuts = sorted(draw.sample(range(1, len(data)), min(len(data) - 1, draw.randint(1, 6))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _at(data: bytes, draw: Random) -> int:
    """Mostly in the first head."""
    head = data.find(b"\r\n\r\n") + 4
    return draw.randint(0, head if head > 3 and draw.random() < 0.7 else len(data))


def _flip(data: bytes, draw: Random) -> bytes:
    if not data:
        return bytes([draw.randrange(256)])
    at = min(_at(data, draw), len(data) - 1)
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def _word(data: bytes, draw: Random) -> bytes:
    at = _at(data, draw)
    return data[:at] + draw.choice(WORDS) + data[at + draw.choice((0, 0, 1, 8)) :]


def _line(data: bytes, draw: Random) -> bytes:
    """A line put between two others of the head: a header more."""
    ends = [at + 2 for at in range(len(data) - 1) if data[at : at + 2] == b"\r\n"][:20]
    at = draw.choice(ends or [0])
    lines = [word for word in WORDS if word.endswith(b"\r\n") and b":" in word]
    return data[:at] + draw.choice(lines) + data[at:]


def _cut(data: bytes, draw: Random) -> bytes:
    at = _at(data, draw)
    return data[:at] + data[at + draw.choice((1, 2, 9, 60)) :]


def _end(data: bytes, draw: Random) -> bytes:
    return data[: _at(data, draw)]


def _twice(data: bytes, draw: Random) -> bytes:
    begin = _at(data, draw)
    piece = data[begin : begin + draw.choice((1, 8, 40, 200))] * draw.choice((1, 1, 2, 100))
    at = _at(data, draw)
    return data[:at] + piece + data[at:]


def _bare(data: bytes, draw: Random) -> bytes:
    return data.replace(b"\r\n", draw.choice((b"\n", b"\r", b"\r\r\n")), draw.choice((1, 2, -1)))


def _large(data: bytes, draw: Random) -> bytes:
    """A long line, a long header, or many of them."""
    at = data.find(b"\r\n") + 2
    long = draw.choice((b"x" * 9000, b"X: " + b"y" * 40_000 + b"\r\n", b"Z: 1\r\n" * 150, b"W: " + b"w" * 600_000))
    return data[:at] + long + data[at:]


CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip, _flip, _word, _word, _line, _line, _cut, _end, _twice, _bare, _large,
)  # fmt: skip
