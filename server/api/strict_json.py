"""JSON as it may come from strangers: UTF-8 without a BOM, no key twice, no NaN, no half surrogates, not too deep.

Knows no schema. Everything it refuses is a 400, and nothing of the text is repeated.
"""

import json
import math
from typing import Any

from server.errors import Invalid

MAX_DEPTH = 32
MAX_KEYS = 2**15
"""Of all objects of a body: each unknown one costs far more than it takes to send, and is looked at on the loop."""


def loads(body: bytes) -> Any:
    """The value, plain Python. Raises Invalid."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("invalid_json", "the body is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise Invalid("invalid_json", "the body starts with a byte order mark")
    try:
        value = json.loads(text, object_pairs_hook=_Objects().read, parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Invalid("invalid_json", "the body is not JSON, or nests too deep") from None
    _check(value)
    return value


class _Objects:
    """Of one body."""

    def __init__(self) -> None:
        self._keys = 0

    def read(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._keys += len(pairs)
        if self._keys > MAX_KEYS:
            raise Invalid("invalid_json", f"the body's objects hold more than {MAX_KEYS} keys")
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Invalid("invalid_json", "an object holds the same key twice")
        return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise Invalid("json_nan", "a number is not finite")
    return value


def _refuse(_: str) -> None:
    raise Invalid("json_nan", "NaN and Infinity are not JSON")


def _check(value: Any) -> None:
    """Depth and strings, without recursion: the decoder's own limit is far deeper."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _whole_characters(item)
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise Invalid("invalid_json", f"the body nests deeper than {MAX_DEPTH} levels")


def _whole_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Invalid("invalid_json", "a string holds half of a surrogate pair") from None
