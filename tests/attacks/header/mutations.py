"""Prompt files with something wrong, drawn from good ones: what a fuzzer that knows the format tries.

Knows the container's layout (8 bytes of length, JSON, data), no parser.
"""

import json
from math import prod
from random import Random
from typing import Any

LONGEST = 128 * 1024
"""Bytes of an input: past the cap on headers."""

WORDS = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"{}", b"[]", b"null", b"true", b"NaN", b"Infinity", b"\\", b"\\u0000",
    b"\\ud800", b"\\ud83d\\ude00", b"\\u0061", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"\0", b" ", b"\n", b"\t",
    b'"__metadata__"', b'"dtype"', b'"shape"', b'"data_offsets"', b'"F32"', b'"F16"', b'"BF16"', b'"F64"', b'"I8"',
    b'"F8_E4M3"', b'"F4"', b'"C64"', b'"BOOL"', b'"a"', b'"extra"', b'"softprompt"', b'""', b'{"format":"pt"}',
)  # fmt: skip
NUMBERS = (
    b"0", b"1", b"2", b"3", b"4", b"8", b"16", b"-1", b"-0", b"00", b"1.0", b"1e2", b"0x10", b"255", b"4294967296",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"1" * 40,
)  # fmt: skip


def joined(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """A file; `length` is what it claims, the header's own where it is not said."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def _file(tensors: dict[str, tuple[str, list[int], int]], metadata: Any = None, padding: bytes = b"") -> bytes:
    """Tensors as name: (dtype, shape, bytes), one after the other."""
    fields: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    position = 0
    for name, (dtype, shape, size) in tensors.items():
        fields[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    return joined(json.dumps(fields).encode() + padding, bytes(index % 251 for index in range(position)))


SEEDS = (
    _file({}),
    _file({}, {"format": "pt"}),
    _file({"prompt_embeddings": ("F32", [2, 3], 24)}, {"format": "pt"}, b"   "),
    _file({"a": ("F16", [3], 6), "b": ("BF16", [1, 2], 4), "é": ("F32", [], 4)}),
    _file({"key": ("F32", [1, 1, 2, 2], 16), "value": ("F32", [1, 1, 2, 2], 16)}, {"softprompt": '{"a":"\\u00fc"}'}),
    _file({"none": ("F32", [0, 4], 0), "one": ("F32", [1], 4), "zero": ("F16", [0], 0)}),
    _file({"double": ("F64", [2], 16), "small": ("I8", [3], 3), "flag": ("BOOL", [1], 1)}),
    _file({f"t{number}": ("F32", [1], 4) for number in range(40)}, {"a": "b"}),
)
"""Good files: of no tensor, one, several, all our dtypes, empty ones, and dtypes that are not ours."""


def drawn(draw: Random) -> bytes:
    """A good file, or nearly: other names, orders, dtypes, empty tensors, and JSON written in other ways."""
    names = draw.sample(
        ["a", "b", "é", "\U0001f600", "", "x" * 40, "../../x", "\t", "__metadata", "0"], draw.randint(0, 5)
    )
    fields: dict[str, Any] = {}
    position = 0
    for name in names:
        dtype, item = draw.choice((("F32", 4), ("F16", 2), ("BF16", 2), ("F32", 4), ("F64", 8)))
        shape = [draw.choice((0, 1, 1, 2, 3, 5)) for _ in range(draw.choice((0, 1, 2, 2, 3, 8, 9)))]
        size = item * prod(shape)
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        fields[name] = dict(draw.sample(sorted(entry.items()), 3))
        position += size
    if draw.random() < 0.7:
        texts = draw.sample(["", "pt", "é", "\u2028", '"', "\\", "\0", "y" * 300], 3)
        fields["__metadata__"] = dict(zip(draw.sample(["format", "softprompt", "", "é"], 3), texts, strict=True))
    fields = dict(draw.sample(sorted(fields.items()), len(fields)))
    header = json.dumps(
        fields,
        ensure_ascii=draw.random() < 0.5,
        indent=draw.choice((None, None, 1)),
        separators=draw.choice((None, (",", ":"), (" ,\r\n", "\t: "))),
    )
    return joined(header.encode() + b" " * draw.choice((0, 0, 5, 4000)), draw.randbytes(position))


def parts(data: bytes) -> tuple[bytes, bytes]:
    """Header and what follows, as far as the length can be believed."""
    length = min(int.from_bytes(data[:8], "little"), max(0, len(data) - 8))
    return data[8 : 8 + length], data[8 + length :]


def mutated(data: bytes, draw: Random) -> bytes:
    """Up to four changes; mostly the length is made right again, so that what lies behind it is tried."""
    header, rest = parts(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        header, rest = draw.choice(CHANGES)(header, rest, draw)
    chance = draw.random()
    if chance < 0.85:
        return joined(header, rest)[:LONGEST]
    wrong = draw.choice(
        (0, len(header) - 1, len(header) + 1, 65_537, 100_000_000, 2**63, 2**64 - 1, draw.getrandbits(64))
    )
    return joined(header, rest, max(0, wrong))[:LONGEST]


def _words(header: bytes, rest: bytes, draw: Random) -> tuple[bytes, bytes]:
    """A word put in, or over another."""
    at = draw.randint(0, len(header))
    word = draw.choice(WORDS if draw.random() < 0.6 else NUMBERS)
    return header[:at] + word + header[at + draw.choice((0, 1, len(word))) :], rest


def _number(header: bytes, rest: bytes, draw: Random) -> tuple[bytes, bytes]:
    """A number in the place of one that is there: shapes and offsets."""
    places = [at for at, byte in enumerate(header) if 48 <= byte <= 57 and not 48 <= header[at - 1] <= 57]
    if not places:
        return header, rest
    at = draw.choice(places)
    end = at
    while end < len(header) and 48 <= header[end] <= 57:
        end += 1
    near = str(max(0, int(header[at:end][:18]) + draw.choice((-4, -1, 1, 4)))).encode()
    return header[:at] + draw.choice((near, draw.choice(NUMBERS))) + header[end:], rest


def _cut(header: bytes, rest: bytes, draw: Random) -> tuple[bytes, bytes]:
    at = draw.randint(0, len(header))
    return header[:at] + header[at + draw.choice((1, 2, 8, 40)) :], rest


def _twice(header: bytes, rest: bytes, draw: Random) -> tuple[bytes, bytes]:
    """A piece of the header once more, somewhere: names twice, entries twice, deep nesting."""
    begin = draw.randint(0, len(header))
    piece = header[begin : begin + draw.choice((1, 8, 40, 80))] * draw.choice((1, 1, 2, 200))
    at = draw.randint(0, len(header))
    return header[:at] + piece + header[at:], rest


def _byte(header: bytes, rest: bytes, draw: Random) -> tuple[bytes, bytes]:
    if not header:
        return bytes([draw.randrange(256)]), rest
    at = draw.randrange(len(header))
    return header[:at] + bytes([header[at] ^ (1 << draw.randrange(8))]) + header[at + 1 :], rest


def _rest(header: bytes, rest: bytes, draw: Random) -> tuple[bytes, bytes]:
    """Data too short, too long, or none."""
    return header, draw.choice((rest[:-1], rest + b"\0", rest + b"PK\x03\x04", b"", rest * 2))


def _padding(header: bytes, rest: bytes, draw: Random) -> tuple[bytes, bytes]:
    """Behind the JSON or before it, up to the cap on headers and past it."""
    blank = draw.choice((b" ", b"\n", b"\0")) * draw.choice((1, 7, max(0, 65_536 - len(header)), 65_537))
    return (header + blank if draw.random() < 0.8 else blank + header), rest


CHANGES = (_words, _words, _number, _number, _cut, _twice, _byte, _rest, _padding)
