"""Results as JSON."""

from typing import Any

import pytest

from server.api.wire import SLICE, dumps, in_slices
from tests.server.pauses import beside


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"tokens": [], "token_strs": None, "count": 0},
        {"tokens": [5], "token_strs": ["é\n\"'\u2028"]},
        *({"tokens": [*range(length)], "count": length} for length in (SLICE - 1, SLICE, SLICE + 1, 2 * SLICE)),
        {"prompt": "a\0b", "nested": [[1, 2], {"a": []}, None]},
    ],
    ids=["empty", "none", "odd", "less", "slice", "more", "two", "others"],
)
def test_in_slices_it_is_the_same_text(value: dict[str, Any]) -> None:
    """As json writes the whole, at the ends of slices, too."""
    assert in_slices(value) == dumps(value).encode()


def test_a_long_list_is_written_while_others_go_on() -> None:
    """json's own encoder keeps Python's lock from the first item to the last."""
    value = {"tokens": [7] * 2_000_000}
    _, pause = beside(lambda: in_slices(value))
    assert pause < 1 / 3
