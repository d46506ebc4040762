"""JSON from strangers: what is refused, and that nothing of it is repeated."""

import pytest

from server.api.strict_json import MAX_DEPTH, MAX_KEYS, loads
from server.errors import Invalid

REFUSED: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "two values": b"1 2",
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf{}",
    "same key twice": b'{"a": 1, "a": 2}',
    "same key twice below": b'{"b": [{"a": 1, "a": 1}]}',
    "NaN": b'{"a": NaN}',
    "Infinity": b"[-Infinity]",
    "1e999": b'{"a": 1e999}',
    "half surrogate in a value": b'{"a": "\\ud800"}',
    "half surrogate in a key": b'{"\\udc00": 1}',
    "100,000 deep": b"[" * 100_000,
    "900 deep": b"[" * 900 + b"]" * 900,
    "just too deep": b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1),
    "a key too many": b'{"a": [%s]}' % b",".join([b'{"a": 1}'] * MAX_KEYS),
    "a number of 100,000 digits": b'{"a": 1' + b"0" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_json_is_a_400(body: bytes) -> None:
    """One fault, no exception of a library, in bounded time."""
    with pytest.raises(Invalid):
        loads(body)


@pytest.mark.parametrize("body", [b'{"a": NaN}', b'{"a": 1e999}'])
def test_numbers_that_are_none_have_their_own_code(body: bytes) -> None:
    """A client that writes NaN is told so."""
    with pytest.raises(Invalid) as caught:
        loads(body)
    assert caught.value.code == "json_nan"


def test_plain_json_is_taken() -> None:
    """Escapes, pairs of surrogates, NUL and nesting up to the bound are plain JSON."""
    assert loads(b'{"a": "\\ud83c\\udfb7\\u0000", "b": 1.5e3, "c": [null, true]}') == {
        "a": "🎷\0",
        "b": 1500.0,
        "c": [None, True],
    }
    assert len(loads(b'{"a": [%s]}' % b",".join([b'{"a": 1}'] * (MAX_KEYS - 1)))["a"]) == MAX_KEYS - 1
    assert loads(b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)) is not None
