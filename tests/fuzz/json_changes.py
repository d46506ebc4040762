"""Good JSON values changed: other types, numbers past every bound, keys, nesting, texts, and what is no JSON at all.

Knows JSON; no schema. The mark is a text that no answer may repeat.
"""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

DEEPEST_FRAMES = 5000
"""Four wraps of 200 are 800 levels, each of two calls or three, one inside the other."""
sys.setrecursionlimit(max(sys.getrecursionlimit(), DEEPEST_FRAMES))

MOST_PLACES = 2**17
"""In one value: more are far past a body's limit, and half a minute of this program's own."""

Place = tuple[Any, Any]
"""A container and a key or an index in it."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Written as it stands: what Python's own encoder would not write."""

    text: str


NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 16, 17, 255, 256, 257, 1.5, -0.0, 4096.0, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 10**40, 1e-320, 1e308,
    *(Raw(text) for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "0x10", "01", "1.", "+1")),
)  # fmt: skip
TEXTS: tuple[Any, ...] = (
    "", " ", "\0", "\n", "\u2028", "\u202e", "\ufeff", "\u0130", "e\u0301", "\U0001f600", "{", "}", "{{7*7}}",
    "{input}",
    "{soft:3}", "{% raw %}", "<s>", "</s>", "<|eot|>", "base", "t", "made", "..", "../../x", "file:///etc/passwd",
    "http://169.254.169.254/", "__proto__", "$ref", "true", "1", "-1", "None", "'; DROP TABLE tasks; --",
    *(Raw(text) for text in ('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\x"', '"\t"', "'a'", '"\\ud83d\\ude00"')),
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [{}], {"": None}, [None], Raw("undefined"), Raw(""))


def changed(value: Any, draw: Random, mark: str) -> bytes:
    """The text of a value with up to four changes, of its tree or of its text."""
    value = [copy.deepcopy(value)]
    for _ in range(draw.choice((0, 1, 1, 1, 2, 4))):
        draw.choice(TREE)(value, draw, mark)
    text = _text(value[0], draw).encode("utf-8", "surrogatepass")
    return draw.choice(FLAT)(text, draw) if draw.random() < 0.2 else text


def places(value: Any) -> Iterator[Place]:
    """Everywhere that a value stands, the outermost first."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def _somewhere(value: Any, draw: Random) -> Place:
    return draw.choice(list(places(value)))


def _value(draw: Random, mark: str) -> Any:
    chance = draw.random()
    if chance < 0.1:
        return draw.choice((mark, mark * 40, [mark], {mark: mark}, "x" * draw.choice((129, 2000, 40_000)) + mark))
    return copy.deepcopy(draw.choice(draw.choice((NUMBERS, TEXTS, OTHERS))))


def _replace(value: Any, draw: Random, mark: str) -> None:
    container, key = _somewhere(value, draw)
    container[key] = _value(draw, mark)


def _leave_out(value: Any, draw: Random, mark: str) -> None:
    container, key = _somewhere(value[0], draw) if isinstance(value[0], dict | list) and value[0] else (value, None)
    if key is not None:
        del container[key]


def _add(value: Any, draw: Random, mark: str) -> None:
    objects = [one for one in (value[0], *(c[k] for c, k in places(value[0]))) if isinstance(one, dict)]
    if objects:
        draw.choice(objects)[draw.choice((mark, "max_tokens", "stream", "n", "", "requests", "version"))] = _value(
            draw, mark
        )


def _rename(value: Any, draw: Random, mark: str) -> None:
    found = [place for place in places(value) if isinstance(place[0], dict)]
    if found:
        container, key = draw.choice(found)
        container[draw.choice((mark, key.upper(), f"{key} ", key[1:], "\u00e9"))] = container.pop(key)


def _swap(value: Any, draw: Random, mark: str) -> None:
    """One part in the place of another."""
    (one, key), (other, name) = _somewhere(value, draw), _somewhere(value, draw)
    one[key] = copy.deepcopy(other[name])


def _wrap(value: Any, draw: Random, mark: str) -> None:
    container, key = _somewhere(value, draw)
    for _ in range(draw.choice((1, 1, 3, 40, 200))):
        container[key] = [container[key]] if draw.random() < 0.5 else {draw.choice(("a", mark)): container[key]}


def _many(value: Any, draw: Random, mark: str) -> None:
    """A list of hundreds, or a text of thousands of characters."""
    container, key = _somewhere(value, draw)
    inner, times = container[key], draw.choice((2, 9, 257, 600))
    if isinstance(inner, str):
        container[key] = inner * times
    elif not isinstance(inner, list) or len(inner) < 300:
        most = MOST_PLACES // (1 + sum(1 for _ in places(inner)))
        container[key] = [copy.deepcopy(inner) for _ in range(min(times, most))]


TREE: tuple[Callable[[Any, Random, str], None], ...] = (
    _replace, _replace, _replace, _leave_out, _add, _add, _rename, _swap, _wrap, _many,
)  # fmt: skip


def _text(value: Any, draw: Random) -> str:
    """JSON, its spaces, escapes and order as drawn; now and then with a key twice."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, list):
        return "[" + ",".join(_text(item, draw) for item in value) + "]"
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)}{draw.choice((':', ': '))}{_text(item, draw)}" for key, item in value.items()]
        if pairs and draw.random() < 0.02:
            pairs.append(draw.choice(pairs))
        return "{" + draw.choice((",", ", ", ",\n")).join(pairs) + "}"
    return json.dumps(value, ensure_ascii=draw.random() < 0.5)


def _truncate(text: bytes, draw: Random) -> bytes:
    return text[: draw.randint(0, len(text))]


def _byte(text: bytes, draw: Random) -> bytes:
    at = draw.randint(0, len(text))
    return (
        text[:at] + draw.choice((b"\xff", b"\0", b"\xed\xa0\x80", b",", b"]", b'"', b"\\", b"//", b"/**/")) + text[at:]
    )


def _piece_twice(text: bytes, draw: Random) -> bytes:
    begin, at = draw.randint(0, len(text)), draw.randint(0, len(text))
    return text[:at] + text[begin : begin + draw.choice((1, 5, 40))] * draw.choice((1, 2, 300)) + text[at:]


def _deep(text: bytes, draw: Random) -> bytes:
    depth = draw.choice((33, 1000, 100_000))
    return draw.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))


def _recoded(text: bytes, draw: Random) -> bytes:
    plain = text.decode("utf-8", "replace")
    return draw.choice(
        (b"\xef\xbb\xbf" + text, plain.encode("utf-16"), plain.encode("utf-32"), text + b" {}", b" " + text)
    )


def _huge(text: bytes, draw: Random) -> bytes:
    """Past the limit of a body."""
    return b'{"inputs":"' + b"x" * draw.choice((200_000, 262_140, 400_000)) + b'"}'


FLAT: tuple[Callable[[bytes, Random], bytes], ...] = (
    _truncate, _truncate, _byte, _byte, _piece_twice, _deep, _recoded, _huge,
)  # fmt: skip
